"""Running the scan of shards: one process, several, or Ray. All call `scan_shard`, so all give the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from medbench.advice import install
from medbench.errors import MedbenchError, unknown
from medbench.leakage.corpus import Shard, json_lines, read
from medbench.leakage.formats import Unreadable
from medbench.leakage.index import Index
from medbench.leakage.minhash import MinHash
from medbench.leakage.scan import Scanner

if TYPE_CHECKING:
    from ray import ObjectRef

ENGINES = ("local", "ray")


METHODS = ("exact", "minhash")


class Worker:
    """What one worker scans with: the exact scanner, and MinHash beside it where that is asked for."""

    def __init__(self, index: Index, method: str = "exact") -> None:
        self.scanner = Scanner(index)
        self.minhash = MinHash(index) if method == "minhash" else None


def scan_shard(worker: Worker, shard: Shard) -> bytes:
    """One shard against the index, as JSON lines: a header with counts, then the findings, records counted locally."""
    unreadable: list[Unreadable] = []
    records = size = 0
    short: list[int] = []
    rows: list[bytes] = []
    sketch: dict[str, Any] = {"proposed": 0, "right": 0, "missed": []}
    if shard.form == "jsonl" and worker.minhash is None:
        for block in json_lines(shard):
            if isinstance(block, Unreadable):
                unreadable.append(dataclasses.replace(block, record=records))
                records += 1
                continue
            scanned = worker.scanner.scan_lines(block, records, shard.file)
            unreadable += scanned.unreadable
            records += scanned.records
            size += scanned.size
            short += scanned.short
            rows += [orjson.dumps(row) for row in scanned.findings]
    else:
        for batch in read(shard, unreadable):
            findings, too_short = worker.scanner.scan(batch)
            if worker.minhash is not None:
                proposed = worker.minhash.candidates(batch)
                near = {(row["record"], row["item_id"]) for row in findings if row["signal"] == "jaccard"}
                sketch["proposed"] += len(proposed)
                sketch["right"] += len(proposed & near)
                sketch["missed"] += sorted(near - proposed)
            records = batch.numbers[-1] + 1
            size += batch.size
            short += too_short
            rows += [orjson.dumps(row) for row in findings]
        records = max([records, *(bad.record + 1 for bad in unreadable)])
    header: dict[str, Any] = {
        "records": records,
        "bytes": size,
        "short": short,
        "unreadable": [dataclasses.asdict(bad) for bad in unreadable],
    }
    if worker.minhash is not None:
        header["minhash"] = sketch
    return b"\n".join([orjson.dumps(header), *rows]) + b"\n"


def run(
    index: Index,
    shards: Sequence[tuple[int, Shard]],
    *,
    method: str = "exact",
    engine: str = "local",
    jobs: int = 1,
    address: str | None = None,
) -> Iterator[tuple[int, bytes]]:
    """`scan_shard` of numbered shards, in whatever order they finish.

    Args:
        index: the frozen test side.
        shards: (number, shard).
        method: ``exact``, or ``minhash`` to count beside it what MinHash LSH proposes and misses.
        engine: ``local`` or ``ray``.
        jobs: worker processes; on Ray, the number of actors.
        address: a running Ray cluster; None starts a local one. Its workers must see the corpus under the same paths.

    Raises:
        MedbenchError: unknown engine, fewer than one job, or Ray is not installed.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if jobs < 1:
        raise MedbenchError(f"jobs must be at least 1, not {jobs}.")
    if engine == "ray":
        yield from _on_ray(index, shards, method, jobs, address)
    elif jobs == 1 or len(shards) <= 1:
        worker = Worker(index, method)
        for number, shard in shards:
            yield number, scan_shard(worker, shard)
    else:
        yield from _in_processes(index, shards, method, jobs)


# What a worker process scans with; set in the parent before a fork, so that the index is shared and not sent.
_index: Index | None = None
_worker: Worker | None = None


def _start(index: Index | None, method: str) -> None:
    global _worker
    index = index or _index
    assert index is not None
    _worker = Worker(index, method)


def _work(task: tuple[int, Shard]) -> tuple[int, bytes]:
    assert _worker is not None
    return task[0], scan_shard(_worker, task[1])


def _in_processes(
    index: Index, shards: Sequence[tuple[int, Shard]], method: str, jobs: int
) -> Iterator[tuple[int, bytes]]:
    global _index
    start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    _index = index
    context: Any = multiprocessing.get_context(start)
    try:
        with context.Pool(min(jobs, len(shards)), _start, (None if start == "fork" else index, method)) as pool:
            yield from pool.imap_unordered(_work, shards)
    finally:
        _index = None


_SHARDS_A_TASK = 4


class _Actor:
    """A Ray actor: one worker for all the shards it is given."""

    def __init__(self, index: ObjectRef, method: str) -> None:
        import ray

        self._worker = Worker(ray.get(index), method)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shards = [Shard(**orjson.loads(shard)) for shard in batch["shard"]]
        return {"number": batch["number"], "state": [scan_shard(self._worker, shard) for shard in shards]}


def _on_ray(
    index: Index, shards: Sequence[tuple[int, Shard]], method: str, jobs: int, address: str | None
) -> Iterator[tuple[int, bytes]]:
    if not shards:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to anyone
    try:
        import ray
        import ray.data
    except ImportError:
        raise MedbenchError(f"--engine ray needs Ray: {install('cluster')}") from None
    started = not ray.is_initialized()
    if started:
        # the store holds the index and the findings of a few shards, never the corpus
        local: dict[str, Any] = (
            {} if address else {"num_cpus": jobs, "object_store_memory": 4 * index.nbytes + (200 << 20)}
        )
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"number": number, "shard": orjson.dumps(dataclasses.asdict(shard))} for number, shard in shards]
        # A task costs Ray about a tenth of a shard's scan: several shards a task, but enough tasks to end together.
        together = max(1, min(_SHARDS_A_TASK, len(rows) // (8 * jobs)))
        data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // together)).map_batches(
            _Actor,
            fn_constructor_args=(ray.put(index), method),
            batch_size=together,
            compute=ray.data.ActorPoolStrategy(size=min(jobs, len(rows))),
            num_cpus=1,
        )
        for row in data.iter_rows():
            yield int(row["number"]), row["state"]
    finally:
        if started:
            with contextlib.suppress(Exception):  # a cluster that is gone needs no shutting down
                ray.shutdown()
