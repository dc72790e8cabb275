"""Eval logs of Inspect (`.eval`, or `.json`), of inspect_evals' tasks or any other: one sample and epoch a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.errors import BadRow, MedbenchError
from medbench.predictions.prediction import Prediction, choice_row, text_row
from medbench.scoring.transcript import raw_text
from medbench.sources.records import BadRows, Record

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample


def records(file: str, bad_rows: BadRows, encoding: str) -> Iterator[Record]:
    """The samples of a log that have an output.

    Raises:
        MedbenchError: it is no log, or one without samples.
        BadRow: an unfinished evaluation, or a sample that ended in an error, unless `bad_rows` skips them.
    """
    from inspect_ai.log import read_eval_log

    if not Path(file).is_file():
        raise MedbenchError(f"{file} does not exist, or is a folder; name one log.")
    try:
        log = read_eval_log(file)
    except Exception as error:  # a zip, a JSON or a schema error: each means that this is no log
        raise MedbenchError(f"{file} is not a readable Inspect log ({type(error).__name__}: {error})") from None
    if log.status != "success":
        bad_rows.add(
            BadRow(
                file,
                "the log",
                "status",
                f"{log.status}: the evaluation did not finish (`inspect eval-retry` completes it)",
            )
        )
    if not log.samples:
        raise MedbenchError(f"{file} holds no samples (written with --no-log-samples, or the header alone).")
    for sample in log.samples:
        row = f"sample {sample.id}" + (f", epoch {sample.epoch}" if (log.eval.config.epochs or 1) > 1 else "")
        if sample.error is not None:
            bad_rows.add(BadRow(file, row, "error", f"the sample ended in an error: {sample.error.message!r:.200}"))
            continue
        if not sample.output.choices:
            bad_rows.add(BadRow(file, row, "output", "the sample has no output: it was not asked, or cancelled"))
            continue
        yield Record(file, row, {"sample": sample, "model": log.eval.model})


def read(record: Record) -> Prediction:
    """The output with its trace, as it was generated; the item as the log keeps it."""
    sample: EvalSample = record.data["sample"]
    output = raw_text(sample.output)
    asked = [message.text for message in sample.messages if message.role == "user"]
    question = _question(sample)
    target = [sample.target] if isinstance(sample.target, str) else list(sample.target)
    shown = tuple(sample.choices or ())
    if shown:
        label = "".join(sorted(target))
        item = choice_row(question, shown, label)
    else:
        label = target[0] if target else ""
        item = text_row(question, label)
    return Prediction(record, output, asked[-1] if asked else question, label or None, item, shown=shown)


def _question(sample: EvalSample) -> str:
    if isinstance(sample.input, str):
        return sample.input
    return next((message.text for message in reversed(sample.input) if message.role == "user"), "")
