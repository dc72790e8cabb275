"""The forms: safe whatever models wrote, self-contained, complete; and the command line."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import simulated_logs as sim
from click.testing import CliRunner

from medbench.reports import html, markdown
from medbench.reports.browser import MOST_CHARACTERS, clean
from medbench.reports.command import leaderboard, report
from medbench.reports.estimates import Options
from medbench.reports.page import Interval, show
from medbench.reports.report import Report, as_json, build, differences

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x00\x1b[31m\u202e\u2028 <!--"
QUICK = Options(resamples=200)


class Page(HTMLParser):
    """Elements, ids and attributes of a page; fails on tags that are closed in the wrong order."""

    VOID = frozenset({"meta", "input", "line", "circle", "rect", "polygon", "polyline", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def built(study_logs: Path) -> Report:
    return build(str(study_logs), options=QUICK)


@pytest.fixture(scope="module")
def page(built: Report) -> str:
    return html.render(built)


def test_the_page_is_well_formed_and_self_contained(page: str) -> None:
    parsed = Page(page)
    for tag, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style"
            if name in ("src", "href"):
                assert value
                assert value.startswith("#"), (tag, value)
    assert "@import" not in page
    assert "url(" not in page
    identities = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(identities) == len(set(identities))


def test_only_its_own_script_may_run(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    for tag in ("script", "style"):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(bodies) == 1
        digest = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_every_section_chart_and_table_is_reachable(page: str, built: Report) -> None:
    parsed = Page(page)
    targets = {a.get("id") for _, a in parsed.tags}
    links = [str(a["href"])[1:] for t, a in parsed.tags if t == "a"]
    assert set(links) <= targets
    assert [s.key for s in built.sections][:3] == ["verdict", "leaderboard", "chance"]
    assert {s.key for s in built.sections} <= set(links)
    drawn = [a for t, a in parsed.tags if t == "svg" and a.get("role") == "img"]
    assert len(drawn) == sum(len(s.charts) for s in built.sections) + 1  # the first screen's picture
    for attributes in drawn:
        assert set(str(attributes["aria-labelledby"]).split()) <= targets
    assert page.count("<caption") == sum(len(s.tables) for s in built.sections)


def test_nothing_from_models_is_executed_or_obeyed(tmp_path: Path) -> None:
    candidate = sim.Candidate(f"bad <b>{HOSTILE}", trace=0.0)
    log = sim.log(candidate, "f5", 6)
    for index, sample in enumerate(log.samples or []):
        sample.output.choices[0].message.content = HOSTILE * (20_000 if index == 0 else 1)
        sample.input = HOSTILE
        sample.metadata["item"]["question"] = HOSTILE
    sim.write(log, tmp_path, "bad")
    sim.write(sim.log(sim.STUDY[0], "f5", 6), tmp_path, "good")
    built = build(str(tmp_path), options=QUICK)
    page = html.render(built, title=f"t {HOSTILE}")
    tags = [tag for tag, _ in Page(page).tags]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert "b" not in tags
    assert not any(control in page for control in ("\x00", "\x1b", "\u202e"))
    assert len(page) < 1_500_000
    data = json.loads(re.findall(r'id="item-data">(.*?)</script>', page, re.DOTALL)[0])
    shown = next(o for entry in data for o in entry["outputs"] if "more characters" in o["answer"])
    assert shown["answer"].startswith("</script><script>alert(1)")
    text = markdown.render(built)
    assert "<script" not in text
    assert "<b>" not in text


def test_long_and_broken_text_is_cut_and_marked() -> None:
    text = clean("a" * 1_000_000)
    assert len(text) < MOST_CHARACTERS + 100
    assert "994,000 more characters" in text
    assert clean("x\x00\x07\ud800y\n") == "x\u2400\u2407‹U+D800›y\n"


def test_items_left_out_are_said(built: Report) -> None:
    assert built.browser.items
    assert "of 40 items of medqa" in built.browser.note
    outputs = built.browser.items[0]["outputs"]
    assert {o["candidate"] for o in outputs} == set(built.study.tables[built.browser.items[0]["task"]].candidates)


def test_numbers_as_text() -> None:
    assert show(Interval(0.664, 0.637, 0.69), "rate") == "66.4% [63.7, 69.0]"
    assert show(-0.029, "points") == "−2.9"
    assert show(0.0001, "p") == "<0.001"
    assert show(float("nan"), "rate") == show(None, "score") == "–"
    assert show(Interval(float("nan"), 0, 1), "rate") == "–"


def test_markdown_has_every_section(built: Report) -> None:
    text = markdown.render(built)
    shown, _, lacking = text.partition("## Not in these logs")
    assert {section.missing is None for section in built.sections} == {True, False}
    for section in built.sections:
        if section.missing is None:
            assert f"## {section.title}" in shown
        else:
            assert f"- **{section.title}**: " in lacking
    assert "pass --audit DIR" in lacking
    assert "`medbench audit CORPUS --against TASK --out DIR`" in lacking


def test_markdown_keeps_code_and_obeys_nothing_else() -> None:
    assert markdown.escape("a `b` *c* <i>") == "a \\`b\\` \\*c\\* &lt;i&gt;"
    assert markdown.sentence("run `medbench x_y` on *all* <b>") == "run `medbench x_y` on \\*all\\* &lt;b&gt;"
    assert markdown.sentence("an odd ` stays") == "an odd \\` stays"


def test_json_is_plain_and_reaches_the_samples(built: Report) -> None:
    document = json.loads(json.dumps(as_json(built), allow_nan=False))
    assert set(document["items"]) == {"medqa", "f5", "refusal_probe"}
    assert len(document["items"]["medqa"]) == 40
    assert len(document["sources"]) == len(built.study.runs)


def test_differences_are_found() -> None:
    assert differences({"a": [1.0, None, "x"]}, {"a": [1.0 + 1e-12, None, "x"]}) == []
    assert differences({"a": 1.0}, {"a": 1.1}) == ["report.a: 1.0 stored, 1.1 recomputed"]
    assert len(differences({"a": 1, "b": [1]}, {"b": [1, 2]})) == 2


def test_report_command_writes_and_checks(tmp_path: Path) -> None:
    for candidate in sim.STUDY[:2]:
        for task in ("medqa", "f5"):
            sim.write(sim.log(candidate, task, 15), tmp_path / "logs")
    arguments = [str(tmp_path / "logs"), "--out", str(tmp_path / "out"), "--resamples", "200"]
    result = CliRunner().invoke(report, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "report.json", "rows.parquet", "manifest.json"}
    again = CliRunner().invoke(report, [*arguments, "--check"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    # Two manifests of one name are two files, wherever the logs lie now.
    for name in ("pt", "sft"):
        (tmp_path / "logs" / name).mkdir()
        (tmp_path / "logs" / name / "manifest.json").write_text(json.dumps({"kind": name}))
    assert CliRunner().invoke(report, arguments, catch_exceptions=False).exit_code == 0
    again = CliRunner().invoke(report, [*arguments, "--check"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    (tmp_path / "logs" / "pt" / "manifest.json").write_text(json.dumps({"kind": "other"}))
    changed = CliRunner().invoke(report, [*arguments, "--check"], catch_exceptions=False)
    assert changed.exit_code == 1
    assert "pt/manifest.json: content changed" in changed.output
    file = tmp_path / "out" / "report.json"
    document = json.loads(file.read_text())
    cell = next(c for c in document["sections"][0]["tables"][0]["rows"][0] if isinstance(c, dict))
    cell["estimate"] += 0.5
    file.write_text(json.dumps(document))
    tampered = CliRunner().invoke(report, [*arguments, "--check"], catch_exceptions=False)
    assert tampered.exit_code == 1
    assert "estimate" in tampered.output


def test_leaderboard_command(study_logs: Path) -> None:
    result = CliRunner().invoke(leaderboard, [str(study_logs), "--resamples", "200"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Accuracy on medqa" in result.output
    assert "cannot be told apart" in result.output


def test_one_candidate_still_makes_a_report(tmp_path: Path) -> None:
    sim.write(sim.log(sim.STUDY[0], "medqa", 12), tmp_path)
    built = build(str(tmp_path), options=QUICK)
    assert "one candidate only" in built.lead[0]
    assert "nothing to choose" in html.render(built)
