"""Tidy rows for a notebook: one per sample, epoch, metric and view, in one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medbench.reports.header import key_of
from medbench.reports.logs import Run, short_name

_SCHEMA = pa.schema(
    [
        *[
            (name, pa.dictionary(pa.int32(), pa.string()))
            for name in ("candidate", "weights", "series", "task", "version")
        ],
        ("sample_id", pa.string()),
        ("epoch", pa.int32()),
        *[(name, pa.dictionary(pa.int32(), pa.string())) for name in ("metric", "view")],
        ("value", pa.float64()),
        *[(name, pa.dictionary(pa.int32(), pa.string())) for name in ("reason", "trace_status", "decoding")],
        ("seed", pa.int64()),
        ("control", pa.dictionary(pa.int32(), pa.string())),
        ("log", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def tidy(run: Run) -> pa.Table:
    """One row per sample, epoch, metric and view. `value` is null where a sample lacks the metric that others have."""
    n, keys = len(run.ids), sorted(run.values)

    def constant(text: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n * len(keys), dtype=np.int32)), pa.array([text]))

    def coded(texts: Sequence[str | None], repeat: int) -> pa.DictionaryArray:
        encoded = pa.array(list(texts), type=pa.string()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(pa.concat_arrays([encoded.indices] * repeat), encoded.dictionary)

    metrics = [key.rsplit("/", 1) if "/" in key else [key, ""] for key in keys]

    def by_key(texts: Sequence[str]) -> pa.DictionaryArray:
        encoded = pa.array(list(texts), type=pa.string()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(np.repeat(np.asarray(encoded.indices), n), encoded.dictionary)

    values = pa.array(np.concatenate([run.values[key] for key in keys]))
    reasons = [r for _, view in metrics for r in run.reasons.get(view, [None] * n)]
    columns = [
        constant(run.candidate),
        constant(json.dumps(run.weights, sort_keys=True)),
        constant(run.series),
        constant(run.task),
        constant(run.version),
        pa.array(run.ids * len(keys)),
        pa.array(run.epochs * len(keys), type=pa.int32()),
        by_key([metric for metric, _ in metrics]),
        by_key([view for _, view in metrics]),
        pa.compute.if_else(pa.compute.is_nan(values), pa.scalar(None, pa.float64()), values),
        coded(reasons, 1),
        coded(run.trace_status, len(keys)),
        constant(key_of(run.setting)),
        pa.array([run.seed] * (n * len(keys)), type=pa.int64()),
        constant(run.control or ""),
        constant(short_name(run.file)),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def write_parquet(runs: Sequence[Run], path: Path) -> int:
    """Write the tidy rows of all runs to one Parquet file, a row group per run; returns the number of rows."""
    total = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for run in runs:
            table = tidy(run)
            writer.write_table(table)
            total += len(table)
    return total
