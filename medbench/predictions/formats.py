"""The layouts of predictions files that are known, how each is told by its fields, and the one way to read them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medbench.errors import MedbenchError, unknown
from medbench.predictions import evalscope, helm, inspect_log, lm_eval, opencompass, tables
from medbench.predictions.prediction import Prediction
from medbench.sources.records import BadRows, Record, convert, read_records


def _rows(file: str, bad_rows: BadRows, encoding: str) -> Iterator[Record]:
    return read_records(file, bad_rows=bad_rows, encoding=encoding)


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
        fields: sets of fields of the first row, any of which tells the layout.
        read: the prediction in a row.
        records: the rows of a file.
    """

    fields: tuple[tuple[str, ...], ...]
    read: Callable[[Record], Prediction]
    records: Callable[[str, BadRows, str], Iterator[Record]] = _rows

    def told_by(self, fields: set[str]) -> tuple[str, ...]:
        """The fields by which a row is of this layout; empty if it is not."""
        return next((wanted for wanted in self.fields if fields >= set(wanted)), ())


# In the order in which a row is tried: the first whose fields it has.
FORMATS: dict[str, Format] = {
    "llamafactory": Format((("predict", "label"),), tables.llamafactory),
    "lm-eval": Format((("doc", "resps"),), lm_eval.read),
    "inspect": Format((("eval", "samples"),), inspect_log.read, inspect_log.records),
    "evalscope": Format((("index", "model_output"), ("index", "sample_score")), evalscope.read),
    "opencompass": Format((("origin_prompt", "prediction"),), opencompass.read),
    "helm": Format(
        (("request_states",), ("instance_id", "predicted_text"), ("instance_id", "stats")), helm.read, helm.records
    ),
    "csv": Format((("prediction",),), tables.columns),
    "plain": Format((("prompt", "output"),), tables.plain),
}


def detect_format(file: str, encoding: str) -> str:
    """The format of a predictions file by the fields of its first row, or by the ending `.eval`.

    Raises:
        MedbenchError: it is none of `FORMATS`.
    """
    name, fields, _ = _looks_like(file, encoding)
    if name is None:
        raise MedbenchError(
            f"{file}: unknown format; its first row has {', '.join(sorted(fields)) or 'no fields'}. Known: "
            + "; ".join(f"{name} ({', '.join(one.fields[0])})" for name, one in FORMATS.items())
            + ". Columns of other names: --column prediction=NAME."
        )
    return name


def _looks_like(file: str, encoding: str) -> tuple[str | None, set[str], tuple[str, ...]]:
    """(format, the first row's fields, those that told it); None where they tell nothing."""
    if Path(file).suffix == ".eval":
        return "inspect", set(), ()
    bad_rows = BadRows("skip")
    first = next(iter(read_records(file, bad_rows=bad_rows, encoding=encoding)), None)
    if first is None and bad_rows.rows:
        raise bad_rows.rows[0]
    fields = set(first.data) if first else set()
    for name, form in FORMATS.items():
        if told := form.told_by(fields):
            return name, fields, told
    return None, fields, ()


def _require_format(file: str, form: str, encoding: str, columns: Mapping[str, str]) -> None:
    """Refuse a format that the file contradicts, and columns that say nothing.

    Raises:
        MedbenchError: there is no such format; the first row has another one's fields and not this one's; columns are
            named of a format that has its own fields, or for no known part.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if columns:
        if form != "csv":
            raise MedbenchError(f"--column names the columns of a table (--format csv); {form} has its own fields.")
        for part in columns:
            if part not in tables.COLUMNS:
                raise unknown("part of --column", part, tables.COLUMNS)
        return
    found, fields, told = _looks_like(file, encoding)
    if found is None or FORMATS[form].told_by(fields) or found == form:
        return
    wanted = " or ".join(" and ".join(one) for one in FORMATS[form].fields)
    has = f": it has {' and '.join(told)}" if told else ""
    raise MedbenchError(f"{file} is not {form}, whose rows have {wanted}. This looks like {found}{has}.")


def read_predictions(
    file: str,
    form: str,
    bad_rows: BadRows,
    encoding: str = "utf-8",
    columns: Mapping[str, str] | None = None,
) -> list[Prediction]:
    """The predictions of a file, in order, one for each prompt; further outputs for a prompt are its `repeats`.

    lm-eval writes one row per filter; rows of one item with the same response are one output.

    Args:
        columns: of the format ``csv``, which column holds which of `tables.COLUMNS`.

    Raises:
        MedbenchError: an unknown format, or one that the file contradicts; an unreadable file, or no usable row.
        BadRow: a row with a missing field, unless `bad_rows` skips it.
    """
    _require_format(file, form, encoding, columns or {})
    rows = FORMATS[form].records(file, bad_rows, encoding)
    if columns:
        rows = iter(convert(rows, functools.partial(tables.renamed, named=columns), bad_rows))
    found = convert(rows, FORMATS[form].read, bad_rows)
    kept: dict[str, list[Prediction]] = {}
    for prediction in found:
        same = kept.setdefault(_identity(prediction, form), [])
        again = any((one.output, one.options) == (prediction.output, prediction.options) for one in same)
        if not (again and form == "lm-eval"):
            same.append(prediction)
    if not kept:
        reason = f"; the first problem: {bad_rows.listed()[0]}" if bad_rows.rows else ""
        raise MedbenchError(f"{file}: no row can be used{reason}")
    return [replace(first, repeats=tuple(others)) for first, *others in kept.values()]


def _identity(prediction: Prediction, form: str) -> str:
    """What makes two rows answers to one question: the id, or the prompt, and the label that goes with it."""
    data = prediction.record.data
    item = (data.get("doc_id"), prediction.item_row) if form == "lm-eval" else None
    asked = prediction.item_id or prediction.prompt or prediction.record.row
    return json.dumps([asked, item, prediction.label], ensure_ascii=False, default=str)
