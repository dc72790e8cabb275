"""Prompts as data: what a set may hold, what it is refused for, and which items a set is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from inspect_ai import Task

from medbench.benchmark import prompts
from medbench.benchmark.prompt_set import read_prompt_set, read_template, to_entry, write_set
from medbench.errors import MedbenchError
from medbench.sources.items import Item
from medbench.tasks.cmexam import cmexam
from medbench.tasks.medqa import medqa

ITEM = Item(question="Which {vitamin} is it?", language="en", options=("A1", "B2"), answer=("A",), context="Given.")
TEXT = "Q: {question}\n{options}\nA:"


def written(path: Path, *entries: dict[str, Any], **more: Any) -> str:
    path.write_text(yaml.safe_dump({"prompts": list(entries), **more}), "utf-8")
    return str(path)


def entry(name: str = "own", **more: Any) -> dict[str, Any]:
    return {"name": name, "mode": "generate", "en": TEXT} | more


def source(folder: Path, count: int = 4) -> str:
    rows = [
        {"question": f"Question {n}?", "options": {"A": "w", "B": "x", "C": "y", "D": "z"}, "answer_idx": "ABCD"[n % 4]}
        for n in range(count)
    ]
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def told(task: Task) -> dict[str, Any]:
    assert task.metadata is not None
    return dict(task.metadata["benchmark"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_house_wordings_are_what_the_pages_ask(language: str) -> None:
    house = {
        "house": prompts.choice,
        "house-several": prompts.choice_multiple,
        "house-token": prompts.choice_first_token,
    }
    for name, asked in house.items():
        assert read_prompt_set("choice").template(name).render(ITEM, language) == asked(ITEM, language)


def test_every_shipped_wording_is_in_both_languages_and_modes_have_several() -> None:
    shipped = list(read_prompt_set("choice").templates.values())
    assert all(set(template.texts) == {"en", "zh"} for template in shipped)
    assert min(sum(t.mode == mode for t in shipped) for mode in ("generate", "logprob")) >= 5
    assert len({template.sha256 for template in shipped}) == len(shipped)


def test_braces_of_an_item_are_left_alone_and_the_context_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "own.yaml", entry(en="{context} {question} {options}"))
    _, template = read_template(f"{path}#own", "generate")
    assert template.render(ITEM, "en") == "Given. Which {vitamin} is it? A. A1\nB. B2"
    with pytest.raises(MedbenchError, match="prompt own has no text in 'zh'"):
        template.render(ITEM, "zh")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(mode="guess"), r"prompt 1 \(own\): mode is 'guess'; expected generate or logprob"),
        (entry(en="{question} {optoins}"), r"\(own\), en: unknown placeholder 'optoins'. Did you mean options"),
        (entry(en="{question}"), r"\{options\} stands 0 times in it; expected once"),
        (entry(en="{question} {question} {options}"), r"\{question\} stands 2 times"),
        (entry(form="verse"), "unknown form 'verse'"),
        (entry(fewshot=-1), "fewshot is -1"),
        (entry(answers="two"), "answers is 'two'; expected one or several"),
        (entry(langauge="en"), "unknown key of a prompt 'langauge'"),
        ({"name": "own", "mode": "generate"}, "no text; expected one under en or zh"),
        (entry(name="a#b"), "name is 'a#b'; expected a text without '#'"),
        ("own", "prompt 1: expected name, mode and a text"),
    ],
)
def test_a_set_that_is_wrong_is_refused_by_prompt_and_field(tmp_path: Path, wrong: Any, message: str) -> None:
    path = written(tmp_path / "own.yaml", wrong)
    with pytest.raises(MedbenchError, match=message):
        read_prompt_set(path)


def test_a_reference_names_set_and_wording(tmp_path: Path) -> None:
    path = written(tmp_path / "own.yaml", entry("one"), entry("two", mode="logprob"))
    with pytest.raises(MedbenchError, match=r"say which, .*own.yaml#NAME; it has one, two"):
        read_template(path, "generate")
    with pytest.raises(MedbenchError, match=r"unknown prompt of .*'tow'. Did you mean two"):
        read_template(f"{path}#tow", "logprob")
    with pytest.raises(MedbenchError, match=r"made for mode=logprob, and this run has mode=generate; .* has one"):
        read_template(f"{path}#two", "generate")
    with pytest.raises(
        MedbenchError, match=r"no prompt set nowhere.yaml: name a YAML file, or a shipped set \(choice\)"
    ):
        read_prompt_set("nowhere.yaml")
    with pytest.raises(MedbenchError, match="two prompts are called 'one'"):
        read_prompt_set(written(tmp_path / "twice.yaml", entry("one"), entry("one")))


def test_writing_a_wording_and_reading_it_again_gives_the_same(tmp_path: Path) -> None:
    shipped = read_prompt_set("choice")
    path = tmp_path / "again.yaml"
    path.write_text(write_set({"prompts": [to_entry(t) for t in shipped.templates.values()]}), "utf-8")
    assert "  en: |-\n" in path.read_text("utf-8")
    again = read_prompt_set(str(path))
    assert {n: t.sha256 for n, t in again.templates.items()} == {n: t.sha256 for n, t in shipped.templates.items()}


def test_a_page_asks_with_the_wording_and_logs_it(tmp_path: Path) -> None:
    path = written(tmp_path / "own.yaml", entry("one", form="letter", fewshot=1))
    pool = tmp_path / "pool"
    pool.mkdir()
    examples = source(pool, 8)
    task = medqa(source=source(tmp_path), prompt=f"{path}#one", fewshot_source=examples)
    first = next(iter(task.dataset))  # type: ignore[arg-type]
    assert [message.text for message in first.input][1] in "ABCD"  # type: ignore[union-attr]
    assert first.input[-1].text == "Q: Question 0?\nA. w\nB. x\nC. y\nD. z\nA:"  # type: ignore[union-attr]
    facts = told(task)
    assert facts["fewshot"] == 1
    assert facts["prompt"]["name"] == "one"
    assert "tuned" not in facts["prompt"]
    assert told(medqa(source=source(tmp_path)))["prompt"] is None


def test_a_set_for_some_items_asks_those_and_one_tuned_on_them_leaves_them_out(tmp_path: Path) -> None:
    items = source(tmp_path)
    ids = [str(sample.id) for sample in medqa(source=items).dataset]
    only = written(tmp_path / "only.yaml", entry(), items={"only": ids[:1]})
    tuning = {"ids_sha256": "x", "scores": {"own": {"own": "1"}}}
    without = written(tmp_path / "tuned.yaml", entry(), items={"without": ids[:1]}, tuning=tuning)
    asked = medqa(source=items, prompt=f"{only}#own")
    tested = medqa(source=items, prompt=f"{without}#own")
    assert [s.id for s in asked.dataset] == ids[:1]
    assert [s.id for s in tested.dataset] == ids[1:]
    assert told(tested)["left_out"] == ["items.jsonl, line 1: the prompts of tuned.yaml were tuned on it"]
    assert told(tested)["prompt"]["tuned"] == {
        "ids_sha256": "x", "of": "", "scores": {"own": "1"}, "tuning_items_tested": 0,
    }  # fmt: skip
    with pytest.raises(MedbenchError, match="asks 1 items by their ids, and 1 of them are not in this source"):
        medqa(source=items, prompt=written(tmp_path / "o.yaml", entry(), items={"only": ["nowhere"]}) + "#own")
    with pytest.raises(MedbenchError, match="tuned on all 4 items; none is left to test"):
        medqa(source=items, prompt=written(tmp_path / "a.yaml", entry(), items={"without": ids}) + "#own")


def test_a_wording_for_one_answer_is_refused_where_several_may_be_right(tmp_path: Path) -> None:
    csv = tmp_path / "val.csv"
    csv.write_text("Question,Options,Answer,Explanation\n下列属于维生素的是,A 甲\\nB 乙,AB,解\n", "utf-8")
    with pytest.raises(MedbenchError, match="asks for one right option, and items here may have several"):
        cmexam(source=str(csv), prompt="choice#letter")
    (sample,) = cmexam(source=str(csv), prompt="choice#letter-several").dataset
    assert "请只回答全部正确选项的字母" in str(sample.input)
