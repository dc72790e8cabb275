"""From items to results on models whose reading is known: a character n-gram model, and the micro-lab."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medbench.contamination import nulls, texts
from medbench.contamination.command import command
from medbench.contamination.likelihood import Tokens, split
from medbench.contamination.run import contamination
from medbench.contamination.scoring import BETWEEN, Plan, balanced_contexts, cut, in_random_order, score, units
from medbench.contamination.tests import judge
from medbench.errors import MedbenchError
from medbench.sources.items import Item

PLAN = Plan(variants=4, contexts=3, context_variants=1, shards=5, permutations=8)
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


class Ngrams:
    """A character model of order 12 that backs off to shorter contexts: it knows what it has read."""

    def __init__(self, read: Sequence[str], order: int = 12) -> None:
        self.name, self.context, self._order = "ngrams", None, order
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._letters = sorted({c for text in read for c in text} | set("0123456789"))
        for text in read:
            for end, start in itertools.product(range(len(text)), range(order + 1)):
                if end >= start:
                    self._counts[text[end - start : end]][text[end]] += 1

    @functools.cache  # noqa: B019 - as long as the model lives
    def _predict(self, before: str) -> dict[str, float]:
        found = dict.fromkeys(self._letters, 1 / len(self._letters))
        for length in range(min(len(before), self._order) + 1):
            counts = self._counts.get(before[len(before) - length :])
            if counts is None:
                break
            total = sum(counts.values())
            found = {c: (counts[c] + 0.5 * found[c]) / (total + 0.5) for c in self._letters}
        return found

    def score(self, wanted: Sequence[Sequence[str]], progress: Any = None) -> list[tuple[Tokens, ...] | None]:
        return [self._score(parts) for parts in wanted]

    def _score(self, parts: Sequence[str]) -> tuple[Tokens, ...]:
        text = "".join(parts)
        rows = []
        for place, letter in enumerate(text):
            p = self._predict(text[max(0, place - self._order) : place])
            values = np.array(list(p.values()))
            logs = np.log(values)
            mean = float((values * logs).sum())
            own = p.get(letter, 1e-4)
            rows.append((np.log(own), own >= values.max(), mean, float((values * (logs - mean) ** 2).sum() ** 0.5)))
        columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0)] * 4
        whole = Tokens(columns[0], columns[1].astype(bool), columns[2], columns[3])
        return split(whole, [len(part) for part in parts])


def made(count: int, seed: int) -> list[Item]:
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choices(SYLLABLES, k=3))

    return [
        Item(
            question=f"{word()} of the {word()}: what treats it?",
            language="en",
            options=tuple(word() for _ in range(4)),
            answer=("A",),
        )
        for _ in range(count)
    ]


def read_in_order(items: Sequence[Item]) -> str:
    return BETWEEN.join("".join(texts.published(item).parts) for item in items)


@pytest.fixture(scope="module")
def worlds() -> tuple[list[Item], list[Item], list[Item]]:
    return made(20, 1), made(12, 2), made(12, 3)


@pytest.mark.parametrize("leaked", [False, True])
def test_a_leak_is_shown_and_a_clean_model_is_not_accused(
    worlds: tuple[list[Item], list[Item], list[Item]], leaked: bool
) -> None:
    tested, others, controls = worlds
    model = Ngrams([read_in_order(others), *([read_in_order(tested)] * 2 if leaked else [])])
    judged = judge(
        tested,
        score(tested, model, PLAN),
        tests=PLAN.tests,
        controls=score(controls, model, PLAN, controls=True),
    )
    p = {f"{result.test}/{result.against}": result.p for result in judged.results}
    if leaked:
        for name in ("exchangeability/orders", "order/orders", "options/orders", "min_k/controls"):
            assert p[name] <= 0.005, (name, p)
        assert judged.shown
    else:
        assert not judged.shown, p
    assert len(judged.items) == len(tested)
    assert {"min_k", "options_z", "options_p", "order_z", "codec", "completion", "completion_run"} <= set(
        judged.items[3]
    )


def test_a_reference_model_is_subtracted(worlds: tuple[list[Item], list[Item], list[Item]]) -> None:
    tested, others, _ = worlds
    model, plan = Ngrams([read_in_order(tested), read_in_order(others)]), Plan(tests=("options", "min_k"), variants=5)
    mine = score(tested, model, plan)
    same = judge(tested, mine, tests=plan.tests, reference=score(tested, model, plan))
    assert [result.p for result in same.results] == [1.0, 1.0]  # nothing is left of a model less itself
    clean = Ngrams([read_in_order(others)])
    less = judge(tested, mine, tests=plan.tests, reference=score(tested, clean, plan))
    assert less.results[0].p <= 0.001


def test_grouped_neighbours_move_together() -> None:
    items = [
        Item(question=f"q{n}", language="en", reference="r", group=group)
        for n, group in enumerate(["a", "a", "b", "", "", "c", "c", "b"])
    ]
    assert units(items) == [[0, 1], [2], [3], [4], [5, 6], [7]]
    assert in_random_order(items) == {3, 4}
    assert cut([[0, 1], [2], [3], [4]], [5, 5, 5, 0, 5], 100, 1) == [[[0, 1], [2], [4]]]  # 3 is too long
    assert cut([[n] for n in range(6)], [50] * 6, 100, 2) == [[[0], [1]], [[4], [5]]]  # the context allows pairs only
    assert cut([[n] for n in range(5)], [50] * 5, 60, 2) == []


class Copier:
    """Knows nothing, but repeats: eight characters that occurred within the last hundred are likely."""

    name, context = "copier", None

    def score(self, wanted: Sequence[Sequence[str]], progress: Any = None) -> list[tuple[Tokens, ...] | None]:
        found: list[tuple[Tokens, ...] | None] = []
        for parts in wanted:
            text = "".join(parts)
            again = [text[i - 7 : i + 1] in text[max(0, i - 100) : i] for i in range(len(text))]
            values = np.where(again, -0.1, -3.0)
            found.append(split(Tokens(values, values > -1), [len(part) for part in parts]))
        return found


def test_a_group_in_order_is_no_leak() -> None:
    # Three items on each subject, one after the other: whatever repeats names likes that order, without having read it
    rng = random.Random(0)
    rows = [(n, f"{subject.question} {rng.random()}") for n, subject in enumerate(made(12, 5)) for _ in range(3)]
    plan = Plan(tests=("exchangeability",), shards=6, permutations=8)
    found = {}
    for grouped in (True, False):
        items = [Item(question=q, language="en", reference="r", group=str(n) if grouped else "") for n, q in rows]
        found[grouped] = judge(items, score(items, Copier(), plan), tests=plan.tests).results[0]
    assert found[True].extra["items_moved_with_their_group"] == 36
    assert found[True].p > 0.05
    assert found[False].p <= 0.001  # what happens where no group is declared


def test_changes_by_context_can_be_compared_between_sets() -> None:
    """CoDeC's changes as a target's share plus its context's: sets drawn alike differ at .05 in 1 of 20 cases."""
    rng = np.random.default_rng(0)
    p_values, items = [], made(16, 1)
    for trial in range(1000):
        sides = []
        for _ in range(2):
            contexts = [one for one in balanced_contexts(items, 2, trial) if one]
            assert len(contexts) >= 15
            own, lent = rng.normal(size=16), rng.normal(size=16)
            sides.append([own[i] + lent[one[0]] for i, one in enumerate(contexts)])
        p_values.append(nulls.sample_p(*sides, rng, draws=99))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 1000)


def test_option_orders_leave_out_sorted_ones() -> None:
    assert texts.is_sorted(("5 mg", "10 mg", "20 mg"))
    assert texts.is_sorted(("zinc", "iron", "gold"))
    assert texts.is_sorted(("a b", "longer", "the longest", "an even longer one"))
    assert all(texts._near("05", random.Random(n)).isdigit() for n in range(20))
    assert not texts.is_sorted(("iron", "zinc", "gold", "copper"))
    item = Item(question="Q?", language="en", options=("iron", "zinc", "gold", "copper"), answer=("A",))
    kind, forms = texts.variants(item, 23, 0)
    assert kind == "orders"
    tails = {form.tail for form in forms}
    assert len(tails) == len(forms) > 12
    assert texts.published(item).tail == "\nA. iron\nB. zinc\nC. gold\nD. copper"
    assert texts.published(item).tail not in tails
    assert "\nA. copper\nB. gold\nC. iron\nD. zinc" not in tails
    kind, forms = texts.variants(Item(question="A 47-year-old took 100 mg.", language="en", reference="r"), 3, 0)
    assert kind == "numbers"
    assert all(form.stem != "A 47-year-old took 100 mg." and form.stem.endswith("took 100 mg.") for form in forms)
    assert texts.variants(Item(question="No number.", language="en", reference="r"), 3, 0) == ("", [])


def as_file(path: Path, items: Sequence[Item]) -> str:
    rows = [{"question": i.question, "options": list(i.options), "answer": "A"} for i in items]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_writes_scores_that_join(tmp_path: Path, worlds: tuple[list[Item], list[Item], list[Item]]) -> None:
    file, out = as_file(tmp_path / "set.jsonl", worlds[0][:12]), tmp_path / "out"
    words = ["--model", "medbench/microlab", "--task", file, "--variants", "3", "--contexts", "2", "--out", str(out)]
    result = CliRunner().invoke(command, [*words, "--shards", "6", "--permutations", "2"], catch_exceptions=False)
    assert "none of 6 tests shows" in result.output
    rows = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [row["item_id"] for row in rows] == [item.id for item in worlds[0][:12]]
    assert all(row["model"] == "medbench/microlab" and row["min_k"] is not None for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["items"]["items"] == 12
    assert {row["test"] for row in summary["results"]} == set(Plan().tests)
    assert json.loads((out / "manifest.json").read_text())["kind"] == "contamination"


def test_what_was_not_checked_is_counted(worlds: tuple[list[Item], list[Item], list[Item]]) -> None:
    free = [Item(question=f"Say {n} things.", language="en", reference="r") for n in (5, 6, 7)]
    in_order = [Item(question=f"Sorted {n}?", language="en", options=("1", "2", "3"), answer=("A",)) for n in range(2)]
    items = [*worlds[0][:8], *free, *in_order]
    by_chance = sum(texts.is_sorted(item.options) for item in worlds[0][:8])
    judged = judge(items, score(items, Ngrams([read_in_order(worlds[1])]), PLAN), tests=PLAN.tests)
    by_name = {result.test: result for result in judged.results}
    assert by_name["options"].unchecked == {"without options": 3, "options in a sorted order": 2 + by_chance}
    assert by_name["min_k"].unchecked["without options; changed numbers need --reference"] == 3
    assert by_name["order"].unchecked == {"the first of the set": 1}
    assert judged.items[9]["options_z"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "medqq"}, r"unknown task 'medqq'.*medqa"),
        ({"task": "missing.jsonl"}, "--task missing.jsonl"),
        ({"model": "mockllm/model"}, "mockllm provider returns no log-probabilities.*vllm-completions"),
        ({"model": "nobody/model"}, "--model nobody/model"),
        ({"plan": Plan(tests=("optoins",))}, "unknown test 'optoins'.*options"),
        ({"limit": 4}, "4 items are too few"),
        ({"controls": "FILE"}, "20 of its 20 items are in the tested set too"),
        ({"out": "OTHER"}, "holds something else"),
        ({"task": "EMPTY"}, "EMPTY|empty|no test item|too few"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, worlds: tuple[list[Item], list[Item], list[Item]], settings: dict[str, Any], words: str
) -> None:
    file = as_file(tmp_path / "set.jsonl", worlds[0])
    (tmp_path / "EMPTY.jsonl").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"kind": "adapter"}')
    places = {"FILE": file, "OTHER": str(tmp_path / "other"), "EMPTY": str(tmp_path / "EMPTY.jsonl")}
    given = {name: places.get(value, value) if isinstance(value, str) else value for name, value in settings.items()}
    arguments: dict[str, Any] = {"model": Ngrams(["x"]), "task": file, **given}
    with pytest.raises(MedbenchError, match=f"(?s){words}"):
        contamination(arguments.pop("model"), arguments.pop("task"), **arguments)
    assert (tmp_path / "other" / "manifest.json").read_text() == '{"kind": "adapter"}'
