"""Existing predictions as Inspect logs: what other harnesses wrote, judged by a benchmark's own scorers.

The predictions are replayed through an evaluation of the registered task, so the log is written and scored by Inspect
as a live one is, can be opened by `inspect view`, and be judged again with `inspect score`. No model runs and no usage
is reported. Items come from the benchmark (`source`), or from the file itself where it holds them.
"""

from __future__ import annotations

import errno
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench import thinking
from medbench.benchmark import catalog
from medbench.errors import MedbenchError
from medbench.files.directories import says_full
from medbench.files.manifest import sha256_file
from medbench.predictions import Prediction, user_turn
from medbench.predictions.formats import detect_format, read_predictions
from medbench.predictions.likelihoods import asked_alike, by_likelihood, likelihoods
from medbench.predictions.match import agreeing, as_labelled, as_shown, match
from medbench.predictions.place import identity, put, staging
from medbench.sources.items import Item, repeat_id
from medbench.sources.records import BadRows, OnBadRow

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog
    from inspect_ai.solver import Solver

_BUFFER = 1000  # samples that Inspect holds before it writes them


def import_predictions(
    file: str,
    *,
    form: str | None,
    task: str | None,
    model: str | None,
    log_dir: str,
    source: str | None = None,
    prefilled: bool | None = None,
    on_bad_row: OnBadRow = "error",
    encoding: str = "utf-8",
    task_args: dict[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
) -> EvalLog:
    """Judge the predictions of `file` with a benchmark's scorers, and write one Inspect log.

    Every output counts, as in the tool's own mean over rows. Where each prompt has the same number of outputs they are
    the epochs of one sample; otherwise each further output is a sample of its own, ``ID~2``, in its item's group, so
    that intervals know that the two are not independent.

    Args:
        file: the predictions.
        form: one of `FORMATS`; None tells by the fields.
        task: name of a task, e.g. ``f5``, or what else `catalog.make` takes; None for trace statistics alone.
        model: the name that the log gives to the model; None takes the rows' `model` field.
        log_dir: where the log is written, as a whole; the same import again replaces its log there.
        source: the benchmark's items in the publisher's format; None takes the items that the file itself holds.
        prefilled: the prompts ended in an opening think tag; None looks at each prompt.
        on_bad_row: ``skip`` leaves unusable rows out and lists them in the log's metadata.
        encoding: of `file`.
        task_args: more arguments of the task.
        columns: part -> column of a table with other names, e.g. ``{"prediction": "模型输出"}``; implies ``csv``.

    Raises:
        MedbenchError: anything that would make a score mean something else than it says: unknown task or model, rows
            that miss fields, predictions and items that do not match one to one, a label that is not the item's key.
    """
    from inspect_ai import Task, eval, task_with
    from inspect_ai.dataset import MemoryDataset

    from medbench.scoring.trace import trace_statistics

    bad_rows = BadRows(on_bad_row)
    if task is not None:
        catalog.check(task)
    form = form or ("csv" if columns else detect_format(file, encoding))
    predictions = read_predictions(file, form, bad_rows, encoding, columns)
    name = model or _model_name(predictions, file)
    likely = [prediction for prediction in predictions if prediction.options]
    if likely:
        task_args = by_likelihood(likely, predictions, task, task_args)
    benchmark: dict[str, Any] = {}
    if task is None:
        made = Task(name="traces", scorer=trace_statistics())
        pairs = [(prediction, _prompt_sample(prediction)) for prediction in predictions]
    elif source is not None or catalog.is_mapping(task):
        named = {} if source is None else {"source": source}
        made = catalog.make(task, {**(task_args or {}), **named, "on_bad_row": on_bad_row})
        pairs = match(predictions, list(made.dataset), file, bad_rows)
    else:
        made, pairs = _task_of_rows(task, predictions, file, bad_rows, task_args or {})
    if task is not None:
        benchmark = dict((made.metadata or {}).get("benchmark", {}))
        if source is None and not catalog.is_mapping(task):
            benchmark |= {"source": str(file), "sha256": sha256_file(file)}
        pairs = agreeing(as_shown(pairs, bad_rows), bad_rows)
        pairs = as_labelled(pairs) if form == "llamafactory" else pairs
    if likely:
        pairs = asked_alike(pairs, bad_rows)
    if not pairs:
        raise MedbenchError(f"{file}: no prediction is left to judge; the first problem: {bad_rows.listed()[0]}")
    samples, outputs, epochs = _laid_out(pairs, prefilled)
    imported = {
        "file": str(file),
        "sha256": sha256_file(file),
        "format": form,
        "predictions": sum(len(said) for said in outputs.values()),
        "repeated_prompts": sum(bool(prediction.repeats) for prediction, _ in pairs),
        "left_out": bad_rows.listed(),
    }
    metadata = {"import": imported, "medbench": {"candidate": name}}
    if benchmark:
        metadata["benchmark"] = {**benchmark, "items": len(samples)}
    task_with(
        made,
        dataset=MemoryDataset(samples, name=made.name, location=str(source or file)),
        solver=_replay(outputs, name),
        epochs=epochs,
        metadata=metadata,
    )
    given = {"task": task, "model": name, "source": source, "prefilled": prefilled, "task_args": task_args}
    called = identity({**given, "sha256": imported["sha256"], "format": form, "columns": dict(columns or {})})
    with staging(log_dir, called) as folder:
        # Inspect prints a model's name as markup, and "my[/model]" is none: the log gets the name afterwards.
        # Samples go to the file many at a time, each time costs its whole listing; metrics count at the end only.
        (log,) = eval(
            made, model="none/imported", log_dir=str(folder), display="none",
            log_realtime=False, log_buffer=_BUFFER, score_display=False,
        )  # fmt: skip
        if log.status != "success":
            told = log.error.message if log.error else log.status
            if says_full(told):  # `staging` names the place and what to do
                raise OSError(errno.ENOSPC, told)
            raise MedbenchError(f"{file}: scoring failed: {told}")
        return _named(log, name, called, log_dir)


def _named(log: EvalLog, model: str, called: str, log_dir: str) -> EvalLog:
    """A log that Inspect has just written, under the model's name and its own, in its directory."""
    from inspect_ai.log import read_eval_log, write_eval_log

    written = Path(log.location.removeprefix("file://"))
    log = read_eval_log(str(written))
    for_id = log.eval.task_id
    log.eval.model, log.eval.task_id = f"none/{model}", called
    for scorer in log.eval.scorers or []:
        # Inspect writes the bare name, by which `inspect score` finds scorers in a task file only, not in the registry
        scorer.name = f"medbench/{scorer.name}"
    stem = written.stem.removesuffix(f"_{for_id}")
    write_eval_log(log, str(written), header_only=True)
    complete = written.rename(written.with_name(f"{stem}_{called}{written.suffix}"))
    log.location = put(complete, log_dir, called)
    return log


# What was said, and what is known of it.
_Said = tuple[str, dict[str, Any]]


def _laid_out(
    pairs: Sequence[tuple[Prediction, Sample]], prefilled: bool | None
) -> tuple[list[Sample], dict[Any, list[_Said]], int]:
    """The samples, what was said of each by epoch, and the number of epochs."""
    counts = {1 + len(prediction.repeats) for prediction, _ in pairs}
    epochs = counts.pop() if len(counts) == 1 else 1
    samples: list[Sample] = []
    outputs: dict[Any, list[_Said]] = {}
    for prediction, sample in pairs:
        shown = prediction.prompt if prediction.prompt is not None else sample.input
        asked = sample.model_copy(update={"input": shown})
        said = []
        for one in (prediction, *prediction.repeats):
            known = likelihoods(one, sample) if one.options else {}
            said.append((one.output, {"prefilled_think": _is_prefilled(one, prefilled), **known}))
        if epochs > 1 or len(said) == 1:
            samples.append(asked)
            outputs[asked.id] = said
            continue
        for number, one_said in enumerate(said, 1):
            again = asked if number == 1 else _again(asked, number)
            samples.append(again)
            outputs[again.id] = [one_said]
    return samples, outputs, epochs


def _again(sample: Sample, number: int) -> Sample:
    """The same item as a sample of its own, in the item's group."""
    metadata = dict(sample.metadata or {})
    item = dict(metadata["item"])
    if not item.get("group") and not item.get("context"):  # a shared context groups items already
        item["group"] = str(sample.id)
    return sample.model_copy(update={"id": repeat_id(str(sample.id), number), "metadata": {**metadata, "item": item}})


def _model_name(predictions: Sequence[Prediction], file: str) -> str:
    names = {prediction.record.data.get("model") for prediction in predictions}
    if len(names) == 1 and isinstance(only := names.pop(), str) and only:
        return only
    raise MedbenchError(f"{file} does not say which one model wrote it: name it with --model.")


def _task_of_rows(
    task: str, predictions: Sequence[Prediction], file: str, bad_rows: BadRows, args: dict[str, Any]
) -> tuple[Task, list[tuple[Prediction, Sample]]]:
    """The task over the items that the predictions file itself holds."""
    missing = [prediction for prediction in predictions if prediction.item_row is None]
    if missing:
        raise MedbenchError(
            f"{file}, {missing[0].record.row}: holds no item (a prompt and a reference) to judge the output by. "
            f"Name the benchmark's own file with --source."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        rows = (json.dumps(prediction.item_row, ensure_ascii=False) for prediction in predictions)
        path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
        try:
            made = catalog.make(task, {**args, "source": str(path), "on_bad_row": bad_rows.policy})
        except MedbenchError as error:
            problem = re.sub(
                rf"{re.escape(str(path))}, line (\d+)",
                lambda line: f"{file}, {predictions[int(line[1]) - 1].record.row}",
                str(error.__cause__ or error),  # what the row lacks, before the advice for `inspect eval`
            )
            raise MedbenchError(
                f"{problem.rstrip('.')}. Its rows are not items of {task}: name the benchmark's own file with --source."
            ) from None
    by_row = {f"items.jsonl, line {number}": found for number, found in enumerate(predictions, 1)}
    pairs = []
    for sample in made.dataset:
        item = sample.metadata["item"] if sample.metadata else {}
        prediction = by_row.pop(item["source"])
        sample.metadata = {**(sample.metadata or {}), "item": {**item, "source": _where(prediction)}}
        pairs.append((prediction, sample))
    for prediction in by_row.values():
        bad_rows.add(prediction.record.error(None, f"not a usable item of {task}, or the same item as another row"))
    return made, pairs


def _where(prediction: Prediction) -> str:
    return f"{Path(prediction.record.file).name}, {prediction.record.row}"


def _prompt_sample(prediction: Prediction) -> Sample:
    from inspect_ai.dataset import Sample

    prompt = prediction.prompt or ""
    language = "zh" if re.search(r"[一-鿿]", prompt) else "en"
    item = Item(question=user_turn(prompt), language=language, source=_where(prediction))
    return Sample(id=item.id, input=prompt, metadata={"item": item.to_metadata()})


def _is_prefilled(prediction: Prediction, told: bool | None) -> bool:
    if told is not None:
        return told
    return prediction.prompt is not None and thinking.split(prediction.prompt).status == "unterminated"


def _replay(outputs: dict[Any, list[_Said]], model: str) -> Solver:
    """A solver that says what was said, by sample id and epoch."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import Generate, TaskState, solver

    @solver(name="imported")
    def imported() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            text, known = outputs[state.sample_id][state.epoch - 1]
            state.output = ModelOutput.from_content(model, text)
            state.output.metadata = known
            state.messages.append(state.output.message)
            return state

        return solve

    return imported()
