"""The page in a real browser: nothing in it is executed, and it can be read and sorted by mouse, keyboard and phone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
import simulated_logs as sim

from medbench.reports import html
from medbench.reports.estimates import Options
from medbench.reports.report import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium: apt-get install chromium"),
]

QUICK = Options(resamples=200)
COLOURS = ["paper", "card", "tint", "ink", "soft", "accent", "warn", "warn-tint", *(f"c{i}" for i in range(6))]
# Each would set `owned` or open a dialog if the page ran it.
ATTACKS = (
    "<script>window.owned=1</script>",
    "</script><script>window.owned=1</script>",
    "</ScRiPt ><img src=x onerror='window.owned=1'>",
    "<!--<script>",
    "--><svg onload=alert(1)>",
    '"><iframe srcdoc="<script>parent.owned=1</script>">',
    "</style><style>body{display:none}</style>",
    "</textarea></title><script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}`${owned=1}`",
    "javascript:alert(1)",
    "\u2028\u2029\u202e\u2066\x00\x1b[31m\x9b\ufeff\ud800 x",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, study_logs: Path) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html.render(build(str(study_logs), options=QUICK)), "utf-8")
    return file


@pytest.fixture(scope="module")
def page(report: Path) -> Iterator[chromium.Page]:
    with chromium.Page() as opened:
        opened.open(report)
        yield opened


def hostile(directory: Path) -> Path:
    """Logs in which names, prompts, outputs, references, traces, targets and categories are all attacks."""
    everything = "".join(ATTACKS)
    for index, name in enumerate((f"one {''.join(ATTACKS[:-1])}", f"two {ATTACKS[1]}")):
        for task in ("f5", "medqa", "refusal_probe"):
            log = sim.log(sim.Candidate(name, trace=0.5), task, 8)
            log.eval.model = f"m/{everything}"
            for number, sample in enumerate(log.samples or []):
                attack = ATTACKS[number % len(ATTACKS)]
                sample.output.choices[0].message.content = f"<think>{attack}</think>{attack}{everything}"
                sample.input, sample.target = everything, everything
                sample.metadata["item"] |= {"question": everything, "reference": everything}
                if task == "refusal_probe":
                    sample.metadata["category"] = attack
            sim.write(log, directory, f"{task}-{index}")
    return directory


def test_nothing_from_models_or_data_sets_is_executed(tmp_path: Path) -> None:
    built = build(str(hostile(tmp_path / "logs")), options=QUICK)
    file = tmp_path / "report.html"
    file.write_text(html.render(built, title=f"title {''.join(ATTACKS)}"), "utf-8")
    with chromium.Page() as page:
        page.open(file)
        page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        for _ in range(len(built.browser.items)):
            page.run("document.getElementById('item-next').click()")
        for button in range(int(page.run("document.querySelectorAll('thead button').length"))):
            page.run(f"document.querySelectorAll('thead button')[{button}].click()")
        assert page.run("typeof window.owned") == "undefined"
        assert page.seen("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded") == []
        requests = {params["request"]["url"] for params in page.seen("Network.requestWillBeSent")}
        assert requests == {file.as_uri()}
        assert page.run("document.querySelectorAll('img, iframe, main script:not([type])').length") == 0
        assert page.run("document.scripts.length") == 2
        assert page.run("getComputedStyle(document.body).display") != "none"
        # The attack is there to be read, as text.
        assert "<script>window.owned=1</script>" in page.run("document.getElementById('item-view').textContent")
        assert page.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_page_runs_without_an_error(page: chromium.Page) -> None:
    assert page.seen("Runtime.exceptionThrown", "Log.entryAdded") == []
    assert page.run("document.getElementById('browser').hidden") is False


def test_a_table_is_sorted_from_the_keyboard(page: chromium.Page) -> None:
    table = "document.getElementById('leaderboard-t1')"
    values = f"Array.from({table}.tBodies[0].rows, r => parseFloat(r.cells[1].dataset.v))"
    before = page.run(values)
    page.run(f"{table}.tHead.rows[0].cells[0].querySelector('button').focus()")
    page.press("Tab")
    assert page.run("document.activeElement.textContent.trim()") == "Score"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    found = []
    for key in ("Enter", "Space", "Enter"):
        page.press(key)
        found.append(page.run(f"{table}.tHead.rows[0].cells[1].getAttribute('aria-sort')"))
        if len(found) == 2:
            assert page.run(values) == sorted(before)
            assert "Sorted by Score, ascending" in page.run("document.getElementById('said').textContent")
    assert found == ["descending", "ascending", None]
    assert page.run(values) == before


def test_a_long_table_is_filtered(page: chromium.Page) -> None:
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    left = page.run(
        "(() => { const i = document.getElementById('floor-t1-f'); i.value = 'mix-0.6';"
        "i.dispatchEvent(new Event('input'));"
        "return Array.from(document.getElementById(i.dataset.filter).tBodies[0].rows).filter(r => !r.hidden)"
        ".map(r => r.textContent); })()"
    )
    assert left
    assert all("mix-0.6" in text for text in left)


def test_headings_go_down_by_one_level(page: chromium.Page) -> None:
    levels = page.run("Array.from(document.querySelectorAll('h1, h2, h3, h4'), h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen(report: Path, width: int, dark: bool) -> None:
    """Nothing but a table in its own scroller is wider than the page, no chart's text lies outside of the chart."""
    with chromium.Page(width, 844, dark=dark) as page:
        page.open(report)
        page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert page.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # The number that matters stands on the screen, whatever the table's width.
        hidden = page.run(
            "Array.from(document.querySelectorAll('td.key')).filter(c => c.getBoundingClientRect().left < 0 ||"
            "c.getBoundingClientRect().right > innerWidth).map(c => c.textContent)"
        )
        assert width > 600 or hidden == []
        outside = page.run(
            "Array.from(document.querySelectorAll('svg.chart text')).filter(t => {"
            "const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();"
            "return a.left < b.left - 1 || a.right > b.right + 1 || a.bottom > b.bottom + 1; }).map(t => t.textContent)"
        )
        assert outside == []


def test_without_scripts_everything_but_the_items_is_there(report: Path) -> None:
    with chromium.Page(scripts=False) as page:
        page.open(report)
        page.send("Emulation.setScriptExecutionDisabled", {"value": False})
        assert page.run("document.getElementById('browser').hidden") is True
        assert page.run("document.querySelectorAll('table.sortable').length") > 10


def test_colours_have_contrast(report: Path) -> None:
    """Text at 4.5 to 1 and marks at 3 to 1 on every ground that they stand on (WCAG 2.2, AA), light and dark."""
    for dark in (False, True):
        with chromium.Page(dark=dark) as page:
            page.open(report)
            colours = {
                name: page.run(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
                for name in COLOURS
            }
            for ground in ("paper", "card", "tint"):
                for text in ("ink", "soft", "accent"):
                    assert contrast(colours[text], colours[ground]) >= 4.5, (dark, text, ground)
            assert contrast(colours["warn"], colours["warn-tint"]) >= 4.5
            for mark in range(6):
                assert contrast(colours[f"c{mark}"], colours["card"]) >= 3, (dark, mark)


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", colour)
    assert digits, colour
    text = digits[1] if len(digits[1]) == 6 else "".join(2 * c for c in digits[1])
    parts = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
