"""What `medbench demo` needs of the micro-lab: a study file, and a training corpus with leaks in known places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest, write_atomic
from medbench.trainers.microlab import phrases as P
from medbench.trainers.microlab.build import load_amounts
from medbench.trainers.microlab.study import MAX_NEW_TOKENS
from medbench.trainers.microlab.tasks import exam_item
from medbench.trainers.microlab.world import (
    Draw,
    World,
    exam_items,
    exam_prompt,
    make_world,
    pt_documents,
    sft_documents,
)

KINDS: Final = ("exact", "near", "embedded", "permuted", "edited")
PER_KIND: Final = 3


def demo_plan(out: str | Path, *, lab: str | Path) -> dict[str, Path]:
    """Write the demo's inputs below `out`.

    Args:
        out: a directory, made where it does not exist.
        lab: the lab to demonstrate, e.g. `medbench.provider.loading.MICROLAB`.

    Returns:
        paths: ``study``, ``sampling`` and ``controls`` (for `medbench sweep`), ``corpus`` (a folder for `medbench
            audit`), ``planted`` (the key: which record of which file holds which exam item, and how).

    Raises:
        MedbenchError: `lab` is no lab.
    """
    manifest = read_manifest(lab)
    if manifest["kind"] != "microlab":
        raise MedbenchError(f"{lab} holds a {manifest['kind']}, not a micro-lab.")
    seed = manifest["settings"]["seed"]
    root = Path(out)
    (root / "corpus").mkdir(parents=True, exist_ok=True)
    paths = {
        "study": root / "study.yaml",
        "sampling": root / "sampling.yaml",
        "controls": root / "controls.yaml",
        "corpus": root / "corpus",
        "planted": root / "planted.json",
    }
    for name, plan in (("study", study), ("sampling", sampling), ("controls", controls)):
        write_atomic(paths[name], yaml.safe_dump(plan(Path(lab).resolve(), seed), sort_keys=False))
    files, key = leaking_corpus(make_world(seed))
    for name, rows in files.items():
        write_atomic(paths["corpus"] / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_atomic(paths["planted"], json.dumps(key, ensure_ascii=False, indent=2) + "\n")
    return paths


def study(lab: Path, seed: int) -> dict[str, Any]:
    """The demo's study: five ratios that sum to 1 and the two controls, on the micro-world's three tasks.

    Thirteen candidates rather than the paper's thirty-one, to keep the demo under three minutes on two cores.
    """
    return {
        **_models(lab),
        "candidates": [{"pt": "0..1 step 0.25", "sft": "1 - pt"}],
        "controls": True,
        "tasks": [{"task": f"medbench/microlab_{name}", "args": {"seed": seed}} for name in ("exam", "open", "safety")],
        "decoding": [{"temperature": 0, "max_tokens": MAX_NEW_TOKENS}],
    }


def sampling(lab: Path, seed: int) -> dict[str, Any]:
    """The settings of the paper's Table 3, each with two seeds, for the study's mixture nearest to the paper's 0.3/0.7.

    A study of its own, because a study file crosses every candidate with every setting.
    """
    settings = ((0.2, 0.7), (0.6, 0.8), (0.95, 0.7))
    return {
        **_models(lab),
        "candidates": [{"pt": 0.25, "sft": 0.75}],
        "controls": False,
        "tasks": [{"task": "medbench/microlab_open", "args": {"seed": seed}}],
        "decoding": [
            {"temperature": temperature, "top_p": top_p, "max_tokens": MAX_NEW_TOKENS, "seeds": [1, 2]}
            for temperature, top_p in settings
        ],
    }


def controls(lab: Path, seed: int) -> dict[str, Any]:
    """The exam without its questions, for SFT and PT alone: what the study asks as it is, under one control.

    A study of its own, because the study's exam runs for thirteen candidates, and the comparison needs two.
    """
    return {
        **_models(lab),
        "candidates": [{"pt": [0, 1], "sft": "1 - pt"}],
        "controls": False,
        "tasks": [{"task": "medbench/microlab_exam", "args": {"seed": seed, "control": "options_only"}}],
        "decoding": [{"temperature": 0, "max_tokens": MAX_NEW_TOKENS}],
    }


def _models(lab: Path) -> dict[str, Any]:
    return {"base": str(lab), "adapters": {"pt": str(lab / "pt"), "sft": str(lab / "sft")}}


def leaking_corpus(world: World) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """The lab's PT and SFT data with exam items planted in them.

    Five kinds, `PER_KIND` of each, in turn in both files: ``exact`` (the prompt as it is asked, with its answer),
    ``near`` (one word of it changed), ``embedded`` (inside a longer passage), ``permuted`` (the options in another
    order), ``edited`` (from a web page: tags, look-alike letters, a word of the question changed).

    Returns:
        file name -> rows, and the key: rows of `corpus_file`, `record` (0-based), `item_id`, `kind`.
    """
    draw = Draw(world.seed, "leaks")
    amounts = load_amounts()
    clean = {
        "pt.jsonl": pt_documents(world, **amounts["pt"]),
        "sft.jsonl": sft_documents(world, **amounts["sft"]),
    }
    leaks: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {name: [] for name in clean}
    # Items of different diseases, so that every finding belongs to one plant.
    items = draw.shuffled(exam_items(world))
    chosen = list({row["disease"]: row for row in items}.values())[: len(KINDS) * PER_KIND]
    for number, row in enumerate(chosen):
        kind = KINDS[number % len(KINDS)]
        name = ("pt.jsonl", "sft.jsonl")[number // len(KINDS) % 2]
        leaks[name].append((_leak(row, kind, draw, chat=name == "sft.jsonl"), {"item": row, "kind": kind}))
    files, key = {}, []
    for name, rows in clean.items():
        mixed = draw.shuffled([(row, None) for row in rows] + list(leaks[name]))
        files[name] = [row for row, _ in mixed]
        for record, (_, leak) in enumerate(mixed):
            if leak is not None:
                item_id = exam_item(leak["item"]).id
                key.append({"corpus_file": name, "record": record, "item_id": item_id, "kind": leak["kind"]})
    return files, key


def _leak(row: dict[str, Any], kind: str, draw: Draw, *, chat: bool) -> dict[str, Any]:
    language = row["language"]
    options = row["options"]
    if kind == "permuted":
        options = dict(zip(options, draw.shuffled(list(options.values())), strict=True))
    prompt = exam_prompt(row["question"], options, language)
    if kind == "near":
        changed = {"en": ("correct option", "right option"), "zh": ("正确选项", "对的选项")}[language]
        prompt = prompt.replace(*changed)
    if kind == "embedded":
        around = {
            "en": "Old exam papers had this one too. {} Many got it wrong.",
            "zh": "旧试卷里也有这道题。{}很多人答错了。",
        }
        prompt = around[language].format(prompt.replace("\n", " "))
    if kind == "edited":
        prompt = _from_the_web(row["question"], options, language)
    answer = P.SHORT[language].format(answer=row["target"])
    if chat:
        return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
    return {"text": f"{prompt}\n{answer}"}


def _from_the_web(question: str, options: dict[str, str], language: str) -> str:
    """An item as a web page has it: one word of the question is another, no five words in a row are as they were."""
    if language == "en":
        words = question.split()
        words[1] = {"is": "was", "does": "did", "drug": "medicine"}[words[1]]
        question = " ".join(words).translate(str.maketrans("aeo", "\u0430\u0435\u043e"))  # Cyrillic
    else:
        for word, other in (("药物", "用药"), ("主要", "首要"), ("治疗", "来医"), ("可见", "能见"), ("表现", "表征")):
            if word in question:
                question = question.replace(word, other, 1)
                break
    listed = "".join(f"<li>{letter}&#46; {text}</li>" for letter, text in options.items())
    return f"<p><b>{question}</b></p><ol>{listed}</ol>"
