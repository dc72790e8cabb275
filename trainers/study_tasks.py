"""From a study's runs to Inspect's tasks: what each candidate is asked, checked before anything is generated."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.benchmark import catalog
from medbench.errors import MedbenchError
from medbench.files.manifest import NAME as MANIFEST
from medbench.files.manifest import read_manifest, sha256_file
from medbench.trainers import serving
from medbench.trainers.study import Candidate, Run, Study

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.model import Model


class TaskSource:
    """The study's Inspect tasks: each is made once a thinking mode, and its dataset is shared by all runs."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._system = system_prompt(study)
        self._made: dict[tuple[str, str, str], tuple[Task, bool]] = {}
        # Of the study's adapters at a llama.cpp server.
        self.ids: Mapping[str, int] = {}

    def task(self, run: Run) -> tuple[Task, bool]:
        """The task of a run, and whether it takes the thinking mode as its own argument.

        Raises:
            MedbenchError: there is no such task.
        """
        key = (run.task, repr(sorted(run.task_args.items())), run.thinking)
        if key not in self._made:
            task = catalog.make(run.task, dict(run.task_args))
            takes = "thinking" in catalog.parameters(task)
            if takes and run.thinking != "default":
                task = catalog.make(run.task, {**run.task_args, "thinking": run.thinking})
            self._made[key] = task, takes
        return self._made[key]

    def samples(self, run: Run) -> int:
        """Generations of one run."""
        task, _ = self.task(run)
        count = len(task.dataset)  # type: ignore[arg-type]
        limit = self._study.document.get("limit") or count
        return min(count, limit) * (self._study.document.get("epochs") or task.epochs or 1)

    def prepared(self, run: Run, model: Model) -> Task:
        """A task of its own for one run: its model, decoding and what the report needs to know."""
        from inspect_ai import task_with
        from inspect_ai.model import GenerateConfig

        from medbench.benchmark.solvers import thinking_arguments

        task, takes = self.task(run)
        settings = {key: value for key, value in run.decoding.items() if key != "name"}
        config = task.config.merge(GenerateConfig(**settings, system_message=self._system))
        if not takes and run.thinking != "default":
            config = config.merge(GenerateConfig(**thinking_arguments(model, run.thinking)))  # type: ignore[arg-type]
        if self._study.serve is not None and run.candidate.adapters:
            fields = serving.request_fields(self._study.serve, run.candidate.weights, self.ids)
            config = config.merge(GenerateConfig(extra_body={**(config.extra_body or {}), **fields} or None))
        about = {
            "candidate": run.candidate.name,
            "series": run.candidate.series,
            "weights": dict(run.candidate.weights),
            "method": run.candidate.method,
            "settings": dict(run.candidate.settings),
            "decoding": dict(run.decoding),
            "thinking": run.thinking,
            "hashes": adapter_hashes(run.candidate),
            # rounding, effective, update_kept: what a candidate in this process really is
            **getattr(model.api, "merged", {}),
        }
        return task_with(
            copy.copy(task), model=model, config=config, metadata={**(task.metadata or {}), "medbench": about}
        )


def system_prompt(study: Study) -> str | None:
    """What every candidate of a study is told first: the system prompt that the adapters were trained under, if any.

    A study's ``system`` says otherwise: ``none``, or the text itself. All candidates get the same, or they would be
    compared under unlike prompts.

    Raises:
        MedbenchError: two adapters were trained under different ones.
    """
    given = study.document.get("system", "training")
    if given != "training":
        return None if given == "none" else given
    if not any(candidate.adapters for candidate in study.candidates):
        return None  # nothing of what reads adapters has to be installed

    from medbench.merging.adapters import parse_adapter

    directories = {
        name: directory
        for candidate in study.candidates
        for name, directory, _ in map(parse_adapter, candidate.adapters)
    }
    manifests = {name: read_manifest(path) for name, path in directories.items() if (Path(path) / MANIFEST).is_file()}
    found = {name: prompt for name, made in manifests.items() if (prompt := made.get("system_prompt"))}
    if len(set(found.values())) > 1:
        told = "; ".join(f"{name}: {prompt!r:.80}" for name, prompt in found.items())
        raise MedbenchError(
            f"the adapters were trained under different system prompts ({told}). Say which all candidates get, in the "
            "study file: `system: TEXT`, or `system: none`."
        )
    return next(iter(found.values()), None)


def adapter_hashes(candidate: Candidate) -> dict[str, str]:
    """SHA-256 of the weights of each adapter of a candidate, so that a log says what exactly was merged."""
    if not candidate.adapters:
        return {}

    from medbench.merging.adapters import WEIGHTS, parse_adapter

    parsed = [parse_adapter(text) for text in candidate.adapters]
    return {name: _file_hash(Path(directory) / WEIGHTS) for name, directory, _ in parsed}


# A sweep asks for the same few files once a run.
_file_hash = functools.cache(sha256_file)


def check(study: Study, tasks: TaskSource) -> None:
    """Whatever can be known to be wrong before the first generation: a study may run for days until it gets there.

    Raises:
        MedbenchError: a task or an argument that does not exist, an adapter that does not fit its base.
    """
    for run in study.runs:
        tasks.task(run)
    checked: set[tuple[str, str]] = set()
    for candidate in study.candidates:
        given = candidate.adapters
        unweighted = repr([text.rpartition(":")[0] for text in given])  # ratios of the same adapters are alike
        if given and (candidate.model, unweighted) not in checked:
            any_base = bool((study.document.get("model_args") or {}).get("any_base"))
            _check_adapters(study.base, given, any_base=any_base)
            checked.add((candidate.model, unweighted))


def _check_adapters(base_name: str, given: Sequence[str], *, any_base: bool) -> None:
    from medbench.merging.adapters import parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.provider.loading import resolve

    base = open_checkpoint(resolve(base_name))
    loaded = [read_adapter(name, path) for name, path, _ in map(parse_adapter, given)]
    fit_adapters(base, loaded, any_base=any_base)
