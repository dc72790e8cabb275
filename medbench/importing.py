"""Existing predictions as Inspect logs: what other harnesses wrote, judged by a benchmark's own scorers.

The predictions are replayed through an evaluation of the registered task, so the log is written and scored by Inspect
as a live one is, can be opened by `inspect view`, and be judged again with `inspect score`. No model runs and no usage
is reported. Items come from the benchmark (`source`), or from the file itself where it holds them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench import catalog, thinking
from medbench.answers import extract_choice
from medbench.errors import BadRow, MedbenchError, unknown
from medbench.items import Item
from medbench.manifest import sha256_file
from medbench.records import BadRows, OnBadRow, Record, convert, read_records

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog
    from inspect_ai.solver import Solver


@dataclass(frozen=True)
class Prediction:
    """One output, with what the file says of the item it answers.

    Attributes:
        record: the row it was read from.
        output: the output as generated.
        prompt: the prompt as the model was given it, or None.
        label: the reference text or key in the file, or None.
        item_row: the item in the benchmark's own format, or None.
        item_id: the item's content-derived id, or None.
    """

    record: Record
    output: str
    prompt: str | None = None
    label: str | None = None
    item_row: dict[str, Any] | None = None
    item_id: str | None = None


def _llamafactory(record: Record) -> Prediction:
    """`generated_predictions.jsonl`: `prompt`, `predict`, `label`."""
    prompt = _raw(record, "prompt") if "prompt" in record.data else None
    label = _raw(record, "label")
    row = {"instruction": user_turn(prompt), "input": "", "output": label} if prompt else None
    return Prediction(record, _raw(record, "predict"), prompt, label, row)


def _lm_eval(record: Record) -> Prediction:
    """`--log_samples` rows: `doc`, `target`, `arguments`, `resps`. The response before any filter is judged."""
    doc = record.data.get("doc")
    if not isinstance(doc, dict):
        raise record.error("doc", f"expected the item as an object, found {type(doc).__name__}")
    responses = record.data.get("resps")
    while isinstance(responses, list) and len(responses) == 1 and isinstance(responses[0], list):
        responses = responses[0]
    if not isinstance(responses, list) or not responses:
        raise record.error("resps", "missing or empty; write the file with --log_samples")
    if not all(isinstance(response, str) for response in responses):
        raise record.error(
            "resps", "holds log-likelihoods, no generated text; medbench judges text: use a generate_until task"
        )
    if len(responses) > 1:
        raise record.error("resps", f"holds {len(responses)} responses to one prompt; run lm-eval with repeats: 1")
    target = record.data.get("target")
    return Prediction(record, responses[0], _lm_eval_prompt(record), None if target is None else str(target), doc)


def _lm_eval_prompt(record: Record) -> str | None:
    arguments = record.data.get("arguments")
    if isinstance(arguments, dict):  # {"gen_args_0": {"arg_0": prompt, "arg_1": settings}}
        arguments = list(arguments.values())
    first = arguments[0] if isinstance(arguments, list) and arguments else None
    if isinstance(first, dict):
        first = list(first.values())
    prompt = first[0] if isinstance(first, list) and first else first
    return prompt if isinstance(prompt, str) else None


def _csv(record: Record) -> Prediction:
    """Columns `prediction`; optional `id` (medbench's item id), `prompt`, `question`, `reference`."""
    prompt = _raw(record, "prompt") if record.data.get("prompt") else None
    question = _raw(record, "question") if record.data.get("question") else prompt
    label = _raw(record, "reference") if record.data.get("reference") else None
    row = {"instruction": question, "input": "", "output": label} if question and label else None
    return Prediction(record, _raw(record, "prediction"), prompt or question, label, row, record.data.get("id") or None)


def _plain(record: Record) -> Prediction:
    """`prompt`, `output`, and nothing to judge the output by."""
    return Prediction(record, _raw(record, "output"), _raw(record, "prompt"))


def _raw(record: Record, field: str) -> str:
    """A text field as it stands: white space counts in what a model wrote, and an empty output is an output."""
    value = record.value(field)
    if not isinstance(value, str):
        raise record.error(field, f"expected text, found {type(value).__name__}")
    return value


# name -> (fields that tell the format, how a row is read)
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Record], Prediction]]] = {
    "llamafactory": (("predict", "label"), _llamafactory),
    "lm-eval": (("doc", "resps"), _lm_eval),
    "csv": (("prediction",), _csv),
    "plain": (("prompt", "output"), _plain),
}

# The last user turn in prompts of common chat templates; LLaMA-Factory drops the special tokens of some.
_TURNS = [
    re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL),
    re.compile(r"<\|start_header_id\|>user<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", re.DOTALL),
    re.compile(r"<｜User｜>(.*?)<｜Assistant｜>", re.DOTALL),
    re.compile(r"\[INST\](.*?)\[/INST\]", re.DOTALL),
    re.compile(r"(?:^|\n)user\n(.*?)\nassistant\n", re.DOTALL),
    re.compile(r"(?:^|\n)Human: (.*?)\nAssistant:", re.DOTALL),
]


def user_turn(prompt: str) -> str:
    """What the user said last in a rendered prompt; the prompt itself where no known chat template is found."""
    for turn in _TURNS:
        turns = turn.findall(prompt)
        if turns:
            return str(turns[-1]).strip()
    return prompt.strip()


def detect_format(file: str, encoding: str) -> str:
    """The format of a predictions file by the fields of its first row.

    Raises:
        MedbenchError: it is none of `FORMATS`.
    """
    bad_rows = BadRows("skip")
    first = next(iter(read_records(file, bad_rows=bad_rows, encoding=encoding)), None)
    if first is None and bad_rows.rows:
        raise bad_rows.rows[0]
    fields = set(first.data) if first else set()
    for name, (required, _) in FORMATS.items():
        if fields >= set(required):
            return name
    raise MedbenchError(
        f"{file}: unknown format; its first row has {', '.join(sorted(fields)) or 'no fields'}. Known: "
        + "; ".join(f"{name} ({', '.join(required)})" for name, (required, _) in FORMATS.items())
        + "."
    )


def read_predictions(file: str, form: str, bad_rows: BadRows, encoding: str = "utf-8") -> list[Prediction]:
    """The predictions of a file, in order.

    lm-eval writes one row per filter; rows of one item with the same response are one prediction.

    Raises:
        MedbenchError: an unknown format, an unreadable file, or no usable row.
        BadRow: a row with a missing field, or two predictions for one prompt, unless `bad_rows` skips them.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    records = read_records(file, bad_rows=bad_rows, encoding=encoding)
    kept: dict[str, Prediction] = {}
    for prediction in convert(records, FORMATS[form][1], bad_rows):
        data = prediction.record.data
        identity = (data.get("doc_id"), prediction.item_row if form == "lm-eval" else None)
        key = json.dumps(
            [prediction.item_id or prediction.prompt or prediction.record.row, identity, prediction.label],
            ensure_ascii=False,
            default=str,
        )
        first = kept.setdefault(key, prediction)
        if first is prediction or (form == "lm-eval" and first.output == prediction.output):
            continue
        bad_rows.add(prediction.record.error(None, f"a second prediction for the prompt of {first.record.row}"))
    if not kept:
        reason = f"; the first problem: {bad_rows.listed()[0]}" if bad_rows.rows else ""
        raise MedbenchError(f"{file}: no row can be used{reason}")
    return list(kept.values())


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
    samples, outputs = [], {}
    for prediction, sample in pairs:
        shown = prediction.prompt if prediction.prompt is not None else sample.input
        samples.append(sample.model_copy(update={"input": shown}))
        outputs[sample.id] = (prediction.output, _is_prefilled(prediction, prefilled))
    task_with(
        made,
        dataset=MemoryDataset(samples, name=made.name, location=str(source or file)),
        solver=_replay(outputs, name),
        metadata=metadata,
    )
    (log,) = eval(made, model=f"none/{name}", log_dir=log_dir, display="none", log_realtime=False)
    if log.status != "success":
        raise MedbenchError(f"{file}: scoring failed: {log.error.message if log.error else log.status}")
    log = read_eval_log(log.location)
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


def _replay(outputs: dict[Any, tuple[str, bool]], model: str) -> Solver:
    """A solver that says what was said: `outputs` by sample id, each with whether the prompt opened its trace."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import Generate, TaskState, solver

    @solver(name="imported")
    def imported() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            text, prefilled = outputs[state.sample_id]
            state.output = ModelOutput.from_content(model, text)
            state.output.metadata = {"prefilled_think": prefilled}
            state.messages.append(state.output.message)
            return state

        return solve

    return imported()
