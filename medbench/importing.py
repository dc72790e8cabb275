"""Existing predictions as Inspect logs: what other harnesses wrote, judged by a benchmark's own scorers.

The predictions are replayed through an evaluation of the registered task, so the log is written and scored by Inspect
as a live one is, can be opened by `inspect view`, and be judged again with `inspect score`. No model runs and no usage
is reported. Items come from the benchmark (`source`), or from the file itself where it holds them.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench import catalog, thinking
from medbench.answers import extract_choice
from medbench.errors import BadRow, MedbenchError
from medbench.items import Item
from medbench.manifest import sha256_file
from medbench.predictions import LIKELIHOODS, Prediction, detect_format, read_predictions, user_turn
from medbench.records import BadRows, OnBadRow

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog
    from inspect_ai.solver import Solver


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
) -> EvalLog:
    """Judge the predictions of `file` with a benchmark's scorers, and write one Inspect log.

    Args:
        file: the predictions.
        form: one of `FORMATS`; None tells by the fields.
        task: name of a task, e.g. ``f5``, or what else `catalog.make` takes; None for trace statistics alone.
        model: the name that the log gives to the model; None takes the rows' `model` field.
        log_dir: where the log is written.
        source: the benchmark's items in the publisher's format; None takes the items that the file itself holds.
        prefilled: the prompts ended in an opening think tag; None looks at each prompt.
        on_bad_row: ``skip`` leaves unusable rows out and lists them in the log's metadata.
        encoding: of `file`.
        task_args: more arguments of the task.

    Raises:
        MedbenchError: anything that would make a score mean something else than it says: unknown task or model, rows
            that miss fields, predictions and items that do not match one to one, a label that is not the item's key.
    """
    from inspect_ai import Task, eval
    from inspect_ai._eval.task.task import task_with
    from inspect_ai.dataset import MemoryDataset
    from inspect_ai.log import read_eval_log, write_eval_log

    from medbench.scorers import trace_statistics

    bad_rows = BadRows(on_bad_row)
    if task is not None:
        catalog.check(task)
    form = form or detect_format(file, encoding)
    predictions = read_predictions(file, form, bad_rows, encoding)
    name = model or _model_name(predictions, file)
    likely = [prediction for prediction in predictions if prediction.options]
    if likely:
        task_args = _by_likelihood(likely, predictions, task, task_args)
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
        pairs = agreeing(pairs, bad_rows)
    if likely:
        pairs = _asked_alike(pairs, bad_rows)
    if not pairs:
        raise MedbenchError(f"{file}: no prediction is left to judge; the first problem: {bad_rows.listed()[0]}")
    imported = {
        "file": str(file),
        "sha256": sha256_file(file),
        "format": form,
        "predictions": len(pairs),
        "left_out": bad_rows.listed(),
    }
    metadata = {"import": imported, "medbench": {"candidate": name}}
    if benchmark:
        metadata["benchmark"] = {**benchmark, "items": len(pairs)}
    samples: list[Sample] = []
    outputs: dict[Any, tuple[str, dict[str, Any]]] = {}
    for prediction, sample in pairs:
        shown = prediction.prompt if prediction.prompt is not None else sample.input
        samples.append(sample.model_copy(update={"input": shown}))
        known = _likelihoods(prediction, sample) if prediction.options else {}
        outputs[sample.id] = (prediction.output, {"prefilled_think": _is_prefilled(prediction, prefilled), **known})
    task_with(
        made,
        dataset=MemoryDataset(samples, name=made.name, location=str(source or file)),
        solver=_replay(outputs, name),
        metadata=metadata,
    )
    # Inspect prints a model's name as markup, and "my[/model]" is none: the log gets the name afterwards.
    (log,) = eval(made, model="none/imported", log_dir=log_dir, display="none", log_realtime=False)
    if log.status != "success":
        raise MedbenchError(f"{file}: scoring failed: {log.error.message if log.error else log.status}")
    log = read_eval_log(log.location)
    log.eval.model = f"none/{name}"
    for scorer in log.eval.scorers or []:
        # Inspect writes the bare name, by which `inspect score` finds scorers in a task file only, not in the registry
        scorer.name = f"medbench/{scorer.name}"
    write_eval_log(log, log.location)
    return log


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
                str(error),
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


def match(
    predictions: Sequence[Prediction], samples: Sequence[Sample], file: str, bad_rows: BadRows
) -> list[tuple[Prediction, Sample]]:
    """Every prediction with the item it answers: by id, else by the question in its prompt, else by order.

    Raises:
        MedbenchError: without ids and prompts, the counts differ.
        BadRow: a prediction that answers no item or one that is already answered, or an item without prediction,
            unless `bad_rows` skips them.
    """
    if all(prediction.item_id is None and prediction.prompt is None for prediction in predictions):
        if len(predictions) != len(samples):
            raise MedbenchError(
                f"{file} holds {len(predictions)} predictions for {len(samples)} items, and neither ids nor prompts "
                "that say which answers which."
            )
        return list(zip(predictions, samples, strict=True))
    by_id = {str(sample.id): sample for sample in samples}
    questions = {
        str(sample.id): _squeezed(Item.from_metadata((sample.metadata or {})["item"]).question) for sample in samples
    }
    in_order = dict(zip((p.record.row for p in predictions), questions, strict=False))
    taken: dict[str, Prediction] = {}
    for prediction in predictions:
        try:
            key = _answered(prediction, by_id, questions, in_order.get(prediction.record.row))
            if key in taken:
                raise prediction.record.error(None, f"answers the same item as {taken[key].record.row}")
            taken[key] = prediction
        except BadRow as problem:
            bad_rows.add(problem)
    without = [sample for key, sample in by_id.items() if key not in taken]
    if without and bad_rows.policy == "error":
        item = Item.from_metadata((without[0].metadata or {})["item"])
        raise MedbenchError(
            f"{file} answers {len(taken)} of {len(samples)} items; the first without a prediction is {without[0].id} "
            f"({item.source}). Name the items that were really asked, or list the others in the log: --on-bad-row skip."
        )
    for sample in without:
        bad_rows.add(BadRow(file, "no row", None, f"no prediction for item {sample.id}"))
    return [(prediction, by_id[key]) for key, prediction in taken.items()]


def _answered(prediction: Prediction, by_id: dict[str, Sample], questions: dict[str, str], guess: str | None) -> str:
    if prediction.item_id is not None:
        if prediction.item_id in by_id:
            return prediction.item_id
        raise prediction.record.error("id", f"no item has the id {prediction.item_id!r}")
    if prediction.prompt is None:
        raise prediction.record.error("prompt", "missing; other rows have one")
    prompt = _squeezed(prediction.prompt)
    if guess is not None and questions[guess] and questions[guess] in prompt:
        return guess
    held = [key for key, question in questions.items() if question and question in prompt]
    if not held:
        raise prediction.record.error("prompt", "holds no item's question")
    # few-shot prompts hold other items' questions before their own, and one question may contain another
    return max(held, key=lambda key: (prompt.rfind(questions[key]) + len(questions[key]), len(questions[key])))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def agreeing(pairs: Sequence[tuple[Prediction, Sample]], bad_rows: BadRows) -> list[tuple[Prediction, Sample]]:
    """The pairs whose label, where the file has one, does not contradict the item's key.

    A contradiction means other items, or another order of the options than the benchmark's.
    """
    kept = []
    for prediction, sample in pairs:
        item = Item.from_metadata((sample.metadata or {})["item"])
        label = prediction.label
        if item.reference and label and not item.options and not item.answer:
            ours, theirs = _squeezed(item.reference), _squeezed(label)
            # LLaMA-Factory cuts long labels at its cutoff_len
            if not ours.startswith(theirs[:-1]):
                bad_rows.add(prediction.record.error("label", "is not the reference text of the item that it answers"))
                continue
        if item.options and label:
            said = extract_choice(label, item.letters, choices=item.options, multiple=True)
            if said.status == "answer" and said.letters != item.answer:
                problem = f"says {''.join(said.letters)}, but the item's key is {''.join(item.answer)}"
                bad_rows.add(prediction.record.error("label", f"{problem}; were the options in another order"))
                continue
        kept.append((prediction, sample))
    return kept


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


def _by_likelihood(
    likely: Sequence[Prediction], predictions: Sequence[Prediction], task: str | None, args: dict[str, Any] | None
) -> dict[str, Any]:
    """The task's arguments for rows that hold log-likelihoods of options instead of text."""
    if len(likely) != len(predictions):
        other = next(prediction for prediction in predictions if not prediction.options)
        raise other.record.error("resps", f"holds text, and {likely[0].record.row} log-likelihoods: import them apart")
    if task is None:
        raise MedbenchError("log-likelihoods of options say nothing without the items' keys: name the --task.")
    asked = (args or {}).get("mode", "logprob")
    if asked != "logprob":
        raise MedbenchError(f"mode={asked} judges text, and these rows hold log-likelihoods of options: mode=logprob.")
    return {**(args or {}), "mode": "logprob"}


def _asked_alike(pairs: Sequence[tuple[Prediction, Sample]], bad_rows: BadRows) -> list[tuple[Prediction, Sample]]:
    """The pairs whose continuations are the item's options: its letters, their texts, or the words of a decision."""
    from medbench.families import DECISIONS

    kept = []
    for prediction, sample in pairs:
        item = Item.from_metadata((sample.metadata or {})["item"])
        asked = [text.strip() for text, _ in prediction.options]
        options = [text.strip() for text in item.options]
        if item.options and asked not in (options, list(item.letters)):
            problem = f"asks for {asked!r:.120}, but the item's options are {options!r:.120}"
            bad_rows.add(prediction.record.error("arguments", f"{problem}, as texts or as letters {item.letters}"))
        elif not item.options and {text.lower() for text in asked} != set(DECISIONS):
            bad_rows.add(
                prediction.record.error("arguments", f"asks for {asked!r:.120}, not for {', '.join(DECISIONS)}")
            )
        else:
            kept.append((prediction, sample))
    return kept


def _likelihoods(prediction: Prediction, sample: Sample) -> dict[str, Any]:
    """The options' texts and log-likelihoods, and their log-probabilities among the options."""
    item = Item.from_metadata((sample.metadata or {})["item"])
    names = list(item.letters) or [text.strip().lower() for text, _ in prediction.options]
    texts = dict(zip(names, prediction.options, strict=True))
    highest = max(value for _, value in prediction.options)
    total = highest + math.log(sum(math.exp(value - highest) for _, value in prediction.options))
    return {
        LIKELIHOODS: {option: list(pair) for option, pair in texts.items()},
        "choice_logprobs": {option: value - total for option, (_, value) in texts.items()},
    }


def _replay(outputs: dict[Any, tuple[str, dict[str, Any]]], model: str) -> Solver:
    """A solver that says what was said: by sample id the output, and what is known of it."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import Generate, TaskState, solver

    @solver(name="imported")
    def imported() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            text, known = outputs[state.sample_id]
            state.output = ModelOutput.from_content(model, text)
            state.output.metadata = known
            state.messages.append(state.output.message)
            return state

        return solve

    return imported()
