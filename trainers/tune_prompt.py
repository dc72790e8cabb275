"""`medbench tune-prompt`: each candidate's best of a set of prompts, picked on items that are not tested.

medbench tune-prompt STUDY.yaml --prompts choice --out tuned

For every task of the study that takes a prompt it asks every candidate with every wording, on tuning items alone, and
writes `tuned/TASK.yaml`: a prompt set with one wording per candidate. A study that names it (`args: {prompt:
tuned/TASK.yaml}`) asks each candidate with its own, and leaves out the items that were tuned on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medbench.benchmark import catalog
from medbench.benchmark.prompt_set import SHIPPED, PromptSet, Template, read_prompt_set, to_entry, write_set
from medbench.errors import MedbenchError
from medbench.files.directories import full_disk_named, held
from medbench.files.manifest import sha256_file, write_atomic, write_manifest
from medbench.files.options import Read, ReadText, Write
from medbench.trainers.study import Study, read_study
from medbench.trainers.study_plan import plan
from medbench.trainers.sweep import sweep

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog

RULE = "most right answers; of equals the one with fewer worked examples, then the one that stands first in the set"
# Fewer tuning items pick little better than chance, and leave the spread over prompts unknown.
FEWEST = 20


@dataclass(frozen=True)
class Source:
    """Where tuning items come from: a file of their own, or a share of the items that would be tested."""

    file: str | None = None
    share: float = 0.2
    most: int = 300
    seed: int = 1

    def __str__(self) -> str:
        split = f"at most {self.most} and {self.share:.0%} of the task's items, split off by seed {self.seed}"
        return split if self.file is None else str(self.file)


@dataclass(frozen=True)
class Tuning:
    """One task's tuning, before any generation.

    Attributes:
        label: names its files.
        task, args: as the study names it.
        wordings: to be tried, in order.
        tuning: ids of the tuning items, sorted; tested: those of the items that stay.
        overlapping: tuning items that were left out because they are tested.
    """

    label: str
    task: str
    args: Mapping[str, Any]
    wordings: list[Template]
    tuning: list[str]
    tested: list[str]
    overlapping: int


def tune(study: Study, prompts: str, fewshot: Sequence[int], source: Source, out: Path) -> list[Path]:
    """Tune all tasks of a study, and write one prompt set for each.

    Args:
        study: its candidates and tasks; of decodings and thinking modes the first is used.
        prompts: a prompt set's file, or a shipped one's name.
        fewshot: numbers of worked examples to try with every wording; empty for what the wordings and tasks say.
        source: of the tuning items.
        out: where the sets, the logs and the manifest go.

    Raises:
        MedbenchError: no task takes a prompt, too few wordings or items, or a run that did not succeed.
    """
    found = read_prompt_set(prompts)
    tunings = prepare(study, found, fewshot, source)
    derived = tuning_study(study, tunings, source, out)
    success, logs = sweep(derived, out, display="log")
    if not success:
        raise MedbenchError("some runs failed; the same command tries them again.")
    written = []
    right = answers(logs)
    for tuning in tunings:
        path = out / f"{tuning.label}.yaml"
        document = tuned_set(tuning, right[tuning.label], prompts, source)
        write_atomic(path, write_set(document))
        written.append(path)
    write_manifest(
        out,
        "tune-prompt",
        settings={"prompts": prompts, "fewshot": list(fewshot), **dataclasses.asdict(source)},
        inputs={"study": sha256_file(study.path), "prompts": prompts if prompts in SHIPPED else sha256_file(prompts)},
        tasks=[facts(tuning, prompts, source) for tuning in tunings],
        logs=sorted(Path(log.location).name for log in logs),
    )
    return written


def prepare(study: Study, found: PromptSet, fewshot: Sequence[int], source: Source) -> list[Tuning]:
    """What will be asked: wordings that fit each task, and tuning items apart from those that are tested."""
    named = [candidate.name for candidate in study.candidates if "#" in candidate.name]
    if named:
        raise MedbenchError(f"candidate {named[0]!r} has a '#' in its name, which ends a file's: give it another name.")
    tunings: list[Tuning] = []
    without: list[str] = []
    for name, args in study.tasks:
        args = {key: value for key, value in args.items() if key != "prompt"}
        task = catalog.make(name, args)
        if "prompt" not in catalog.parameters(task):
            without.append(name)
            continue
        facts_of_task = (task.metadata or {})["benchmark"]
        label = str(facts_of_task["name"])
        if label in {tuning.label for tuning in tunings}:
            raise MedbenchError(f"two tasks of {study.path} are called {label}; tune them in studies of their own.")
        wordings = fitting(found, facts_of_task, fewshot)
        tuning, overlapping = tuning_ids(name, args, ids_of(task), source)
        tested = sorted(set(ids_of(task)) - set(tuning))
        if len(tuning) < FEWEST or not tested:
            raise MedbenchError(
                f"{name}: {len(tuning)} tuning items and {len(tested)} to test; expected {FEWEST} or more to tune on "
                f"and some to test ({source}; {overlapping} left out because they are tested)."
            )
        tunings.append(Tuning(label, name, args, wordings, tuning, tested, overlapping))
    if not tunings:
        raise MedbenchError(f"no task of {study.path} takes a prompt ({', '.join(without)} do not).")
    if without:
        click.echo(f"left as they are, because they take no prompt: {', '.join(without)}", err=True)
    return tunings


def fitting(found: PromptSet, task: Mapping[str, Any], fewshot: Sequence[int]) -> list[Template]:
    """The wordings made for a task's mode and number of right options, each with every number of worked examples.

    Raises:
        MedbenchError: fewer than two.
    """
    mode, several = task["mode"], bool(task["multiple"]) and task["mode"] == "generate"
    made_for = [one for one in found.templates.values() if one.mode == mode and one.several == several]
    counts = sorted(set(fewshot))
    tried = [
        dataclasses.replace(one, fewshot=count, name=f"{one.name}, {count} examples" if len(counts) > 1 else one.name)
        for count in counts
        for one in made_for
    ] or made_for
    if len(tried) < 2:
        kind = f"mode={mode}" + (" and several right options" if several else "")
        raise MedbenchError(
            f"{found.source} has {len(tried)} wordings for {kind} ({task['name']}); expected two or more."
        )
    return tried


def ids_of(task: Task) -> list[str]:
    """Ids of a task's items, derived from their content."""
    return [str(sample.id) for sample in task.dataset]


def tuning_ids(name: str, args: Mapping[str, Any], items: Sequence[str], source: Source) -> tuple[list[str], int]:
    """Ids to tune on, sorted, none of them tested, and how many of a file's were left out for that."""
    if source.file is not None:
        own = catalog.make(name, tuning_args(args, source))
        known = sorted(set(ids_of(own)))
        apart = [item for item in known if item not in set(items)]
        return sorted(seeded(apart, source.seed)[: source.most]), len(known) - len(apart)
    count = min(source.most, round(source.share * len(items)))
    return sorted(seeded(items, source.seed)[:count]), 0


def tuning_args(args: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """A task's arguments on its tuning items."""
    if source.file is None:
        return dict(args)
    return {key: value for key, value in args.items() if key != "revision"} | {"source": source.file}


def seeded(ids: Iterable[str], seed: int) -> list[str]:
    """Ids in an order that depends on the seed and the ids alone, not on the file."""
    return sorted(ids, key=lambda item: hashlib.sha256(f"{seed}:{item}".encode()).hexdigest())


def tuning_study(study: Study, tunings: Sequence[Tuning], source: Source, out: Path) -> Study:
    """The study that asks all candidates with all wordings, on the tuning items alone."""
    folder = (out / "wordings").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    tasks: list[tuple[str, dict[str, Any]]] = []
    for tuning in tunings:
        path = folder / f"{tuning.label}.yaml"
        entries = [to_entry(wording) for wording in tuning.wordings]
        document = {"prompts": entries, "items": {"only": tuning.tuning}}
        text = write_set(document)
        if not path.is_file() or path.read_text("utf-8") != text:
            write_atomic(path, text)
        args = tuning_args(tuning.args, source)
        tasks += [(tuning.task, {**args, "prompt": f"{path}#{one.name}"}) for one in tuning.wordings]
    document = {key: value for key, value in study.document.items() if key not in ("limit", "epochs")}
    return dataclasses.replace(
        study, document=document, tasks=tasks, decodings=study.decodings[:1], thinking=study.thinking[:1]
    )


def answers(logs: Sequence[EvalLog]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Task -> candidate -> wording -> item id -> right (1) or not (0; no readable answer is none).

    Raises:
        MedbenchError: an item without a score.
    """
    from inspect_ai.log import read_eval_log

    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for header in logs:
        log = read_eval_log(header.location)
        about = log.eval.metadata or {}
        benchmark, candidate = about["benchmark"], about["medbench"]["candidate"]
        scores: dict[str, float] = {}
        for sample in log.samples or []:
            values = [score.value for score in (sample.scores or {}).values() if isinstance(score.value, dict)]
            right = next((value["accuracy/answer"] for value in values if "accuracy/answer" in value), None)
            if not isinstance(right, int | float) or right not in (0, 1):
                raise MedbenchError(f"{header.location}: item {sample.id} has no accuracy; run the same command again.")
            scores[str(sample.id)] = float(right)
        found.setdefault(benchmark["name"], {}).setdefault(candidate, {})[benchmark["prompt"]["name"]] = scores
    return found


def pick(wordings: Sequence[Template], right: Mapping[str, Mapping[str, float]]) -> Template:
    """A candidate's wording by `RULE`."""
    places = range(len(wordings))
    best = min(places, key=lambda at: (-sum(right[wordings[at].name].values()), wordings[at].fewshot or 0, at))
    return wordings[best]


def facts(tuning: Tuning, prompts: str, source: Source) -> dict[str, Any]:
    """What a log and a manifest say of a task's tuning."""
    return {
        "task": tuning.task,
        "set": prompts,
        "wordings": [one.name for one in tuning.wordings],
        "wordings_sha256": digest([one.sha256 for one in tuning.wordings]),
        "rule": RULE,
        "source": str(source),
        "items": len(tuning.tuning),
        "ids_sha256": digest(tuning.tuning),
        "left_to_test": len(tuning.tested),
        "tested_ids_sha256": digest(tuning.tested),
        "shared_with_tested": len(set(tuning.tuning) & set(tuning.tested)),
        "left_out_because_tested": tuning.overlapping,
    }


def digest(names: Sequence[str]) -> str:
    """SHA-256 of ids in order, as `items.describe` has it."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def tuned_set(
    tuning: Tuning, right: Mapping[str, Mapping[str, Mapping[str, float]]], prompts: str, source: Source
) -> dict[str, Any]:
    """The prompt set to write: a wording per candidate, the items that it leaves out, and all scores."""
    entries, scores = [], {}
    for candidate, by_wording in right.items():
        chosen = pick(tuning.wordings, by_wording)
        entries.append(to_entry(chosen, name=candidate, of=f"{prompts}#{chosen.name}"))
        scores[candidate] = {
            one.name: "".join(str(int(by_wording[one.name][item])) for item in tuning.tuning) for one in tuning.wordings
        }
    return {
        "about": "written by medbench tune-prompt; scores: 1 right, 0 not, of each tuning item in order of its id",
        "prompts": entries,
        "items": {"without": tuning.tuning},
        "tuning": {**facts(tuning, prompts, source), "scores": scores},
    }


def lines_of(path: Path) -> list[str]:
    """A written set in words: every candidate's share of right answers with every wording, its own one marked."""
    found = read_prompt_set(str(path))
    tuning = found.tuning
    lines = [
        f"{tuning['task']}: {len(tuning['wordings'])} wordings on {tuning['items']} items, none of the "
        f"{tuning['left_to_test']:,} that stay for the test"
    ]
    width = max(map(len, found.templates))
    for candidate, template in found.templates.items():
        shares = []
        for wording in tuning["wordings"]:
            bits = tuning["scores"][candidate][wording]
            mark = "*" if template.of.endswith(f"#{wording}") else ""
            shares.append(f"{wording} {bits.count('1') / len(bits):.1%}{mark}")
        lines.append(f"  {candidate:{width}}  " + "  ".join(shares))
    return lines


def _counts(context: click.Context, option: click.Parameter, value: str | None) -> list[int]:
    try:
        counts = [int(part) for part in (value or "").split(",") if part.strip()]
    except ValueError:
        raise click.BadParameter(f"expected numbers joined by commas, e.g. 0,3; not {value!r}.") from None
    if any(count < 0 for count in counts):
        raise click.BadParameter("expected numbers of 0 or more.")
    return counts


@click.command()
@click.argument("study", type=Read())
@click.option("--prompts", default="choice", show_default=True, help="A prompt set: a YAML file, or a shipped one.")
@click.option("--fewshot", callback=_counts, help="Numbers of worked examples to try with each, e.g. 0,3.")
@click.option("--tuning", "file", type=ReadText(), help="A file with the tuning items, in the task's own format.")
@click.option("--share", default=0.2, show_default=True, help="Without --tuning: the share of items to split off.")
@click.option("--most", default=300, show_default=True, help="Tuning items at most.")
@click.option("--seed", default=1, show_default=True, help="Which ones.")
@click.option("--out", type=Write(replace=True), required=True, help="Where sets, logs and manifest go.")
@click.option("--dry-run", is_flag=True, help="Print what would be asked; run nothing.")
def command(
    study: Path, prompts: str, fewshot: list[int], file: str | None, share: float, most: int, seed: int, out: Path,
    dry_run: bool,
) -> None:  # fmt: skip
    """Pick each candidate's best prompt on items that are not tested; run again to go on where it stopped."""
    if not 0 < share < 1:
        raise MedbenchError(f"--share is {share:g}; expected a share above 0 and below 1.")
    source = Source(file, share, most, seed)
    checked = read_study(study)
    if dry_run:
        tunings = prepare(checked, read_prompt_set(prompts), fewshot, source)
        with tempfile.TemporaryDirectory() as folder:
            click.echo("\n".join(plan(tuning_study(checked, tunings, source, Path(folder)), out, None)))
        return
    with held(out), full_disk_named(out):
        tuned = tune(checked, prompts, fewshot, source, out)
    for path in tuned:
        click.echo("\n".join(lines_of(path)))
        click.echo(f"  * asked with; in a study: args: {{prompt: {path}}}")
