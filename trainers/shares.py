"""How a sweep's runs are split over workers: by their place in the study alone, so that no lock is needed to take one.

The runs stand in a row, candidate by candidate, each as long as it has generations; the row is cut into as many pieces
of equal length as there are workers, and a run belongs to the piece that its middle lies in. So a worker meets few
models, and loads or switches weights for hardly more candidates than one process would in that time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    from medbench.trainers.study import Run, Study


def stay_together(study: Study) -> bool:
    """Whether one worker must do all of a candidate's runs: behind a vLLM server it loads and unloads the adapter."""
    return study.serve is not None and study.serve.kind == "vllm"


def share(
    runs: Sequence[Run], generations: Callable[[Run], int], worker: int, of: int, *, undivided: bool = False
) -> list[Run]:
    """The runs of one worker, in the order of the study.

    Args:
        runs: all of the study's.
        generations: how many one run has.
        worker: from 0.
        of: the number of workers.
        undivided: a candidate's runs stay together.

    Raises:
        MedbenchError: there is no such worker.
    """
    if of < 1 or not 0 <= worker < of:
        raise MedbenchError(
            f"there is no worker {worker} of {of}: workers are counted from 0, so the last is {of - 1}. In a Slurm "
            f"array: --array=0-{max(of, 1) - 1}."
        )
    if of == 1:
        return list(runs)
    pieces: list[list[Run]] = []
    for run in runs:
        if undivided and pieces and pieces[-1][-1].candidate.name == run.candidate.name:
            pieces[-1].append(run)
        else:
            pieces.append([run])
    lengths = [max(1, sum(map(generations, piece))) for piece in pieces]
    total, begin, mine = sum(lengths), 0, []
    for piece, length in zip(pieces, lengths, strict=True):
        # In whole numbers: every worker must cut at the same places.
        if (2 * begin + length) * of // (2 * total) == worker:
            mine += piece
        begin += length
    return mine
