"""Which runs a worker does: each run exactly once, in pieces of about equal length, candidate by candidate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medbench.errors import MedbenchError
from medbench.trainers.shares import share
from medbench.trainers.study import Candidate, Run


def runs_of(lengths: list[list[int]]) -> tuple[list[Run], dict[int, int]]:
    """Runs of candidates, by the generations of each; and those by run."""
    runs, sizes = [], {}
    for number, tasks in enumerate(lengths):
        for task, length in enumerate(tasks):
            run = Run(Candidate(f"c{number}", "mix", "mockllm/m"), f"t{task}", {}, {}, "default")
            runs.append(run)
            sizes[id(run)] = length
    return runs, sizes


def dealt(lengths: list[list[int]], of: int, **more: Any) -> list[list[Run]]:
    runs, sizes = runs_of(lengths)
    return [share(runs, lambda run: sizes[id(run)], worker, of, **more) for worker in range(of)]


@given(st.lists(st.lists(st.integers(0, 5000), min_size=1, max_size=5), min_size=1, max_size=20), st.integers(1, 40))
def test_every_run_is_one_workers(lengths: list[list[int]], of: int) -> None:
    runs, sizes = runs_of(lengths)
    for undivided in (False, True):
        shares = [share(runs, lambda run: sizes[id(run)], k, of, undivided=undivided) for k in range(of)]
        # In order and without gaps: a worker meets neighbours, and together they are the study.
        assert [id(run) for mine in shares for run in mine] == [id(run) for run in runs]
        if undivided:
            owners = Counter(name for mine in shares for name in {run.candidate.name for run in mine})
            assert set(owners.values()) == {1}


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 8))
def test_no_share_is_longer_than_its_part_and_one_run(lengths: list[int], of: int) -> None:
    shares = dealt([lengths], of)
    runs, sizes = runs_of([lengths])
    by_task = {run.task: sizes[id(run)] for run in runs}
    for mine in shares:
        assert sum(by_task[run.task] for run in mine) <= sum(lengths) / of + max(lengths)


def test_thirteen_candidates_on_two_workers_cut_one() -> None:
    first, second = dealt([[92, 92, 92]] * 13, 2)
    assert (len(first), len(second)) == (19, 20)
    assert {run.candidate.name for run in first} & {run.candidate.name for run in second} == {"c6"}
    first, second = dealt([[92, 92, 92]] * 13, 2, undivided=True)
    assert (len(first), len(second)) == (18, 21)


@pytest.mark.parametrize(("worker", "of"), [(2, 2), (-1, 2), (0, 0), (1, 1)])
def test_a_worker_that_is_not_there(worker: int, of: int) -> None:
    with pytest.raises(MedbenchError, match=r"counted from 0.*--array=0-"):
        share([], lambda run: 1, worker, of)
