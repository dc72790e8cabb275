"""The functions of text and the readers of files whose time must grow with the length alone."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LETTERS, TEXTS = "ABCDE", ["aspirin", "heparin 5,000 units", "E. coli", "the answer", "1.5 mg"]
ZH_TEXTS = ["阿司匹林", "肝素", "大肠杆菌", "答案", "维生素B12"]


def functions() -> Mapping[str, Callable[[str], object]]:
    """Name -> a function of one text."""
    return {**_reading(), **_scoring(), **_readers()}


def _reading() -> dict[str, Callable[[str], object]]:
    from medbench import thinking
    from medbench.answers import extract_choice, extract_decision, extract_number
    from medbench.predictions import user_turn
    from medbench.reading.clean import clean_text
    from medbench.scoring.extractors import EXTRACTORS
    from medbench.sources.quantities import find_date, find_weeks_days

    choice = functools.partial(extract_choice, letters=LETTERS)
    found: dict[str, Callable[[str], object]] = {
        "thinking.views": thinking.views,
        "thinking.views prefilled": functools.partial(thinking.views, prefilled=True),
        "thinking.mentions": thinking.mentions,
        "clean_text": clean_text,
        "extract_choice": choice,
        "extract_choice choices": functools.partial(choice, choices=TEXTS),
        "extract_choice zh several": functools.partial(choice, choices=ZH_TEXTS, multiple=True),
        "extract_choice odd": functools.partial(choice, question="Which is NOT so?", choices=TEXTS, truncated=True),
        "extract_choice letter": functools.partial(choice, form="letter", multiple=True),
        "extract_choice question": lambda text: extract_choice("B", LETTERS, question=text),
        "extract_choice option text": lambda text: extract_choice("The answer is B", LETTERS, choices=[text, "b"]),
        "extract_decision": extract_decision,
        "extract_decision line_first": functools.partial(extract_decision, form="line_first"),
        "extract_number": extract_number,
        "extract_number date": functools.partial(extract_number, kind="date"),
        "extract_number weeks": functools.partial(extract_number, kind="weeks_days"),
        "find_date": find_date,
        "find_weeks_days": find_weeks_days,
        "user_turn": user_turn,
    }
    for name, extractor in EXTRACTORS.items():
        found[f"extractor {name}"] = functools.partial(extractor.rule, labels=tuple(LETTERS), multiple=False)
    return found


def _scoring() -> dict[str, Callable[[str], object]]:
    from medbench.refusal.detector import classify
    from medbench.refusal.support import supports
    from medbench.surface.items import PROFILES
    from medbench.surface.tokens import TokenizedText, detect_language

    found: dict[str, Callable[[str], object]] = {
        "classify": classify,
        "classify prompt": lambda text: classify("I can't help with that. " + text[:1000], text),
        "supports": supports,
        "detect_language": detect_language,
    }
    for language in ("en", "zh", "other"):

        def layers(text: str, language: str = language) -> object:
            made = TokenizedText(text, language)
            return made.characters, made.chinese_words, made.bleu_words, made.rouge_words

        found[f"tokens {language}"] = layers
    for profile in PROFILES:
        found[f"surface {profile} (16k)"] = functools.partial(_surface, profile=profile)
    return found


def _surface(text: str, profile: str) -> object:
    """BLEU and ROUGE of a pair; ROUGE-L is a table of two lengths, so the pairs are many and short."""
    from medbench.surface import score

    pieces = [text[start : start + 2000] for start in range(0, len(text), 2000)]
    return score(pieces, pieces[::-1], profile=profile).corpus


def _readers() -> dict[str, Callable[[str], object]]:
    from medbench.files.yaml_files import parse_yaml
    from medbench.sources.layout import item_of
    from medbench.sources.records import BadRows, Record, read_records

    folder = Path(tempfile.mkdtemp(prefix="fuzz-growth-"))

    def read(name: str, whole: Callable[[str], str]) -> Callable[[str], object]:
        def run(text: str) -> object:
            path = folder / name
            path.write_text(whole(text), "utf-8", errors="replace")
            bad_rows = BadRows("skip")
            return sum(1 for _ in read_records(path, bad_rows=bad_rows)), bad_rows.listed()

        return run

    def row(text: str) -> object:
        data: dict[str, Any] = {"question": text, "options": text, "answer": text, "context": text}
        return item_of(Record("f", "1", data))

    return {
        "records raw.jsonl": read("raw.jsonl", lambda text: text),
        "records raw.json": read("raw.json", lambda text: text),
        "records raw.csv": read("raw.csv", lambda text: text),
        "records raw.tsv": read("raw.tsv", lambda text: text),
        "records row.jsonl": read("row.jsonl", lambda text: json.dumps({"question": text})),
        "records cell.csv": read("cell.csv", lambda text: 'a,b\n1,"' + text.replace('"', '""') + '"\n'),
        "item_of": row,
        "parse_yaml (64k)": lambda text: parse_yaml(text[: 1 << 16], "growth"),
    }
