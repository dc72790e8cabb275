"""The first screen: it chooses only where the tests do, and says the same as the verdict below it."""

from __future__ import annotations

import html as entities
import re
from pathlib import Path

import pytest
import simulated_logs as sim
from inspect_ai.log import EvalLog
from markdown_it import MarkdownIt

from medbench import stats
from medbench.reports import glossary, html, markdown, svg
from medbench.reports.estimates import Options
from medbench.reports.gap import safety
from medbench.reports.report import Report, build

QUICK = Options(resamples=200)
NASTY = "**bold** [x](http://e.x) <b>é</b> | `code` $x$ ~~no~~ \u202egnp\x1b[31m\u200b"


def with_rights(name: str, items: int, right: set[int], task: str = "medqa") -> EvalLog:
    """A log in which exactly these items are answered right."""
    log = sim.log(sim.Candidate(name, accuracy=0.5, trace=0.0), task, items)
    for index, sample in enumerate(log.samples or []):
        assert sample.scores
        value = sample.scores["option_accuracy"].value
        assert isinstance(value, dict)
        value |= {key: float(index in right) for key in value if key.startswith("accuracy/")}
        value |= {key: 1.0 for key in value if key.startswith("answered/")}
    return log


def report_of(tmp_path: Path, rights: dict[str, set[int]], items: int = 60, both: bool = True) -> Report:
    for name, right in rights.items():
        sim.write(with_rights(name, items, right), tmp_path, f"q-{len(name)}-{name[:4]}")
        if both:
            sim.write(sim.log(sim.Candidate(name, trace=0.0), "f5", 20), tmp_path, f"t-{len(name)}-{name[:4]}")
    return build(str(tmp_path), options=QUICK, with_items=False)


def test_a_clear_lead_is_taken_and_its_size_said(tmp_path: Path) -> None:
    built = report_of(tmp_path, {"strong": set(range(50)), "weak": set(range(20))})
    assert built.headline.startswith("Take strong for right answers on medqa")
    assert "answers 83.3% of 60 questions right" in built.lead[0]
    assert "Guessing would get 25.0%" in built.lead[0]
    assert built.opening.sure[0].startswith("Sure enough to act on")
    assert "ahead of weak, the next, by 50.0 points" in built.opening.sure[1]


@pytest.mark.slow
def test_an_exact_tie_is_in_the_title(tmp_path: Path) -> None:
    """Seven candidates at 30 of 60: nobody is chosen, by whatever order their names have."""
    built = report_of(tmp_path, {f"tie-{'x' * i}": set(range(30)) for i in range(7)}, both=False)
    assert built.headline == "Accuracy on medqa does not choose between these 7 candidates"
    assert built.opening.sure[0].startswith("Not sure who is best")


def test_chance_is_not_a_choice(tmp_path: Path) -> None:
    built = report_of(tmp_path, {"one": set(range(16)), "three": set(range(10))})
    assert built.headline == "No candidate is shown to answer medqa better than by guessing"
    assert "Take" not in built.headline


def test_a_group_that_leads_is_named(tmp_path: Path) -> None:
    built = report_of(tmp_path, {"a": set(range(50)), "bb": set(range(1, 50)), "ccc": set(range(18))}, both=False)
    assert built.headline.startswith("Take a or bb: accuracy on medqa does not choose between them")


def test_three_items_are_too_few(tmp_path: Path) -> None:
    built = report_of(tmp_path, {"a": {0, 1, 2}, "bb": set()}, items=3, both=False)
    assert "Take" not in built.headline
    assert "real" not in " ".join([built.headline, *built.lead, *built.opening.sure])


def test_who_was_not_ranked_is_said_in_the_same_line(tmp_path: Path) -> None:
    for name, right in (("strong", set(range(50))), ("weak", set(range(20)))):
        sim.write(with_rights(name, 60, right), tmp_path, name)
    other = sim.log(sim.Candidate("served", decoding={"temperature": 1.0}), "medqa", 60)
    sim.write(other, tmp_path, "served")
    built = build(str(tmp_path), options=QUICK, with_items=False)
    assert "Not ranked, because decoded or asked in another way: served." in built.lead[0]
    board = next(s for s in built.sections if s.key == "leaderboard")
    assert "served (temperature 1)" in board.tables[0].note
    assert "not ranked, because decoded otherwise: served" in board.findings[0]


@pytest.mark.slow
def test_the_margin_is_answered_on_the_first_screen(tmp_path: Path) -> None:
    """Equal on all of 400 items: as good as, though accuracy does not choose; the third is shown to be worse."""
    for name, right in (("base", set(range(300))), ("merge", set(range(300))), ("worse", set(range(150)))):
        sim.write(with_rights(name, 400, right), tmp_path, name)
    built = build(str(tmp_path), options=Options(resamples=200, margin=0.03), with_items=False)
    said = next(s for s in built.opening.sure if s.startswith("You asked for a margin of 3 points"))
    assert "merge is as good as base, within that; 1 is shown to be worse" in said
    rows = next(s for s in built.sections if s.key == "equivalence").tables[0].rows
    assert {(row[0], row[1]): row[4] for row in rows}["base", "merge"] == "equivalent"
    without = build(str(tmp_path), options=QUICK, with_items=False)
    assert not any("margin" in s for s in without.opening.sure)


@pytest.mark.slow
def test_the_first_screen_says_what_the_letters_say(tmp_path: Path) -> None:
    """Fifteen candidates: p = .004 for the pair holds over the comparisons with the best, and not over all pairs."""
    rights = {"best": set(range(100)), "next": set(range(88))} | {
        f"low{'x' * i}": set(range(10 + i)) for i in range(13)
    }
    built = report_of(tmp_path, rights, items=120, both=False)
    board = next(s for s in built.sections if s.key == "leaderboard").tables[0]
    marks = {row[0]: str(row[3]) for row in board.rows}
    tied = bool(set(marks["best"]) & set(marks["next"]))
    assert tied == ("next" in built.headline)


def test_unread_answers_are_told_beside_the_accuracy(tmp_path: Path) -> None:
    log = with_rights("quiet", 60, set(range(45)))
    for index, sample in enumerate(log.samples or []):
        value = (sample.scores or {})["option_accuracy"].value
        assert isinstance(value, dict)
        value |= {key: float(index < 48) for key in value if key.startswith("answered/")}
    sim.write(log, tmp_path, "quiet")
    sim.write(with_rights("loud", 60, set(range(10))), tmp_path, "loud")
    built = build(str(tmp_path), options=QUICK, with_items=False)
    assert "20.0% of its outputs state no answer and count as wrong" in built.lead[0]
    assert "Of the answers that can be read, 93.8% are right" in built.lead[0]


def test_names_and_axes_of_the_picture_stay_apart(tmp_path: Path) -> None:
    """Both axes keep their end labels inside; each name has a rule above it, and tasks stand in a line of their own."""
    long = {f"openai-api/local/some-very-long-model-name{'-x' * i}": set(range(20 + 10 * i)) for i in range(3)}
    drawn = str(svg.draw(report_of(tmp_path, long).opening.picture, "picture"))
    assert ">Right answers, %</text>" in drawn
    assert ">medqa</text>" in drawn
    ends = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(start|middle|end)" class="tick">', drawn)
    left = [(float(x), anchor) for x, anchor in ends if float(x) < svg.PANELS / 2]
    right = [(float(x), anchor) for x, anchor in ends if float(x) > svg.PANELS / 2]
    assert {anchor for _, anchor in (*left, *right)} == {"middle"}
    assert min(right)[0] - max(left)[0] >= 30
    assert min(left)[0] >= 12
    assert max(right)[0] <= svg.PANELS - 12
    assert drawn.count('<line x1="4.0"') == 3


def test_what_was_compared_is_told_from_the_weights(study_logs: Path) -> None:
    built = build(str(study_logs), options=QUICK, with_items=False)
    said = " ".join(built.opening.compared)
    assert "The base model, as it was before any training here: base." in said
    assert "PT is domain pretraining" in said
    assert "pt (PT weight 1)" in said
    assert "5 candidates, weights PT 0.3 to 1 and SFT 0.4 to 1" in said
    assert "Questions with a right answer: medqa (40, also compared with a reference text)." in said
    assert "Prompts that show whether a model refuses what it should, and only that: refusal_probe (40)" in said
    refusals = next(s for s in built.opening.sure if s.startswith("Refusals (refusal_probe"))
    assert "base refuses" in refusals
    verdict = next(s for s in built.sections if s.key == "verdict")
    assert "The answer at the top of the page compares accuracy on medqa with BLEU-4" in verdict.notes[0]


@pytest.mark.slow
def test_who_was_not_asked_everything_is_counted(study_logs: Path, tmp_path: Path) -> None:
    said = " ".join(build(str(study_logs), options=QUICK, with_items=False).opening.compared)
    assert "All were asked the same items." in said
    logs = sorted(study_logs.rglob("*.eval"))
    (left_out,) = [log for log in logs if "medqa" in log.name][:1]
    for log in logs:
        if log != left_out:
            (tmp_path / log.name).hardlink_to(log)
    said = " ".join(build(str(tmp_path), options=QUICK, with_items=False).opening.compared)
    assert "Not all were asked everything" in said
    assert "9 of 10 candidates" in said


def test_every_word_that_needs_it_is_in_the_glossary(study_logs: Path) -> None:
    page = html.render(build(str(study_logs), options=QUICK, with_items=False))
    for word in ("floor", "regret", "holm", "view", "abstain", "mde", "tied"):
        assert f'id="g-{word}"' in page
    for word in ("floor", "regret", "holm", "view"):
        assert f'href="#g-{word}"' in page
    assert "NaN" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("text", "anchors"),
    [
        ("the floor and the floors", ["floor"]),
        ("candidate floor-model, a/floor and view.py", []),
        ("pt-0.3 beats sft; SFT alone", ["merge"]),
        ("Holm's correction, AUC", ["holm", "auc"]),
    ],
)
def test_words_are_linked_once_and_names_never(text: str, anchors: list[str]) -> None:
    pieces = list(glossary.parts(text, set()))
    assert "".join(piece for piece, _ in pieces) == text
    assert [anchor for _, anchor in pieces if anchor] == anchors


def test_names_stay_text_in_markdown(tmp_path: Path) -> None:
    """Rendered by a Markdown reader of GitHub's kind, names are there to the letter and nothing is obeyed."""
    starts = ["- one", "1. two", "# three", "> four", "+ five"]
    rights = {f"{start} {NASTY}": set(range(20 + 3 * i)) for i, start in enumerate(starts)}
    for index, (name, right) in enumerate(rights.items()):
        sim.write(with_rights(name, 40, right), tmp_path, f"log{index}")
    built = build(str(tmp_path), options=QUICK, with_items=False)
    text = markdown.render(built)
    assert not set(text) & set("\u202e\x1b\u200b")
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    plain = entities.unescape(re.sub(r"<[^>]+>", "", rendered))
    for name in built.study.candidates:
        assert name in plain
    assert set(re.findall(r"<(\w+)", rendered)) <= {
        *("h1", "h2", "p", "ul", "li", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "small")
    }
    assert "bold</strong>" not in rendered
    assert "<a " not in rendered


def test_few_contexts_of_prompts_are_too_few_to_test() -> None:
    """Two candidates need six contexts (2 / 2**6 is below .05), ten candidates eleven: 45 pairs are corrected for."""
    bounds = stats.Interval(0.5, 0.1, 0.9)

    def testable(contexts: int, candidates: int) -> bool:
        rates = {f"m{k}": bounds for k in range(candidates)}
        return safety.Refused(40, contexts, 0, rates).testable(0.05)

    assert [testable(n, 2) for n in (5, 6)] == [False, True]
    assert [testable(n, 10) for n in (10, 11)] == [False, True]
