"""Leaks that were edited on the way: how many of each kind of edit the audit finds, and what it finds where nothing is.

    python benchmarks/leakage_edits.py [--half develop|blind] [--seed N] [--save FILE] [--before FILE] [--show]

Real items of ../shared/data (MedQA, CMExam, PubMedQA, F5, F6) are edited, one kind of edit at a time, and planted in
real documents (training rows of medical_qa, PubMedQA contexts of items that are not looked for). 4,000 more documents
hold nothing. Items, documents and seeds of the half `blind` are others than those of `develop`, on which thresholds
were chosen. An item counts as found where any finding of its record names it, contexts apart.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medbench.leakage import audit
from medbench.leakage.against import load
from medbench.sources.items import LETTERS, Item

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SOURCES = ("medqa/us_4_options_test.jsonl", "cmexam/val_even.csv", "medical_qa/en_valid.jsonl")
SOURCES += ("medical_qa/zh_valid.jsonl", "pubmedqa/ori_pqal.json")
EACH, CLEAN = 60, 4_000
WORD = re.compile(r"[A-Za-z]{3,}")
HAN = re.compile("[\u3400-\u9fff]")
UNIT = re.compile("[\u3400-\u9fff]|[^\\W_\u3400-\u9fff]+")
SENTENCE = re.compile(r"(?<=[.?!。？！；;])\s*(?=\S)")
LOOKALIKE = dict(zip("aceopxyACEHOPTX", "асеорхуАСЕНОРТХ", strict=True))

Edit = Callable[[random.Random, str], str]


# ---- the edits: a text in, the edited text out


def replace_units(count: int, pattern: re.Pattern[str], words: list[str]) -> Edit:
    def edit(rng: random.Random, text: str) -> str:
        found = list(pattern.finditer(text))
        for match in sorted(rng.sample(found, min(count, len(found))), key=lambda m: -m.start()):
            other = rng.choice([w for w in rng.sample(words, 20) if w != match[0].lower()])
            text = text[: match.start()] + other + text[match.end() :]
        return text

    return edit


def typos(share: float) -> Edit:
    """So many letters, Han characters among them, replaced, dropped, doubled, or swapped with the next one."""

    def edit(rng: random.Random, text: str) -> str:
        out, k = [], 0
        wanted = max(1, round(share * len(text)))
        places = set(rng.sample(range(len(text)), wanted))
        while k < len(text):
            c = text[k]
            if k in places and (c.isalpha()):
                other = rng.choice("abcdefghijklmnopqrstuvwxyz") if c.isascii() else rng.choice("的一是在不了有和人这")
                swapped = text[k + 1] + c if k + 1 < len(text) and text[k + 1].isalpha() else other
                out.append(rng.choice([other, "", c + c, swapped]))
                k += 2 if out[-1] == swapped and swapped != other else 1
                continue
            out.append(c)
            k += 1
        return "".join(out)

    return edit


def hyphenate(rng: random.Random, text: str) -> str:
    """Lines of about 50 characters as a scanner reads them: a word of more than five letters is split at the end."""
    out, column = [], 0
    for word in text.split(" "):
        if column + len(word) > 50:
            if len(word) > 5 and word.isalpha():
                cut = rng.randint(2, len(word) - 2)
                out.append(f"{word[:cut]}-\n{word[cut:]} ")
                column = len(word) - cut
                continue
            out.append("\n")
            column = 0
        out.append(word + " ")
        column += len(word) + 1
    return "".join(out)


def tag(rng: random.Random, text: str) -> str:
    def around(match: re.Match[str]) -> str:
        name = rng.choice(["b", "i", "em", 'span class="hl"', 'a href="/wiki/x"'])
        return rng.choice([f"<{name}>{match[0]}</{name.split()[0]}>", f"{match[0]}<br>", f"{match[0]}<br/>\n"])

    pattern = WORD if WORD.search(text) else re.compile("[\u3400-\u9fff]{2}")
    return "<p>" + pattern.sub(lambda m: around(m) if rng.random() < 0.2 else m[0], text) + "</p>"


def entities(rng: random.Random, text: str) -> str:
    text = html.escape(text)
    text = re.sub(" ", lambda m: "&nbsp;" if rng.random() < 0.2 else " ", text)
    return re.sub(
        "[aeiou\u3400-\u9fff]",
        lambda m: f"&#{ord(m[0])};" if rng.random() < 0.05 else f"&#x{ord(m[0]):x};" if rng.random() < 0.03 else m[0],
        text,
    )


def lookalikes(rng: random.Random, text: str) -> str:
    return "".join(LOOKALIKE.get(c, c) if rng.random() < 0.15 else c for c in text)


def zero_width(rng: random.Random, text: str) -> str:
    return "".join(c + ("\u200b" if rng.random() < 0.1 else "") for c in text)


def numbers(rng: random.Random, text: str) -> str:
    def other(match: re.Match[str]) -> str:
        value = int(match[0])
        return str(rng.choice([v for v in range(max(1, value // 2), value * 2 + 9) if v != value]))

    return re.sub(r"\d{1,6}", other, text)


def fullwidth(rng: random.Random, text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def dashes(rng: random.Random, text: str) -> str:
    table = {"-": "–—－", "'": "’", '"': "”“", "~": "～", "μ": "u", "µ": "u", "～": "-"}
    return "".join(rng.choice(table[c]) if c in table else c for c in text).upper()


def reorder(rng: random.Random, text: str) -> str:
    parts = SENTENCE.split(text)
    order = list(range(len(parts)))
    while order == sorted(order):
        rng.shuffle(order)
    return " ".join(parts[k] for k in order)


def drop(rng: random.Random, text: str) -> str:
    parts = SENTENCE.split(text)
    gone = set(rng.sample(range(len(parts)), max(1, len(parts) // 4)))
    return " ".join(part for k, part in enumerate(parts) if k not in gone)


# ---- what is planted


def with_options(rng: random.Random, item: Item, question: str) -> str:
    shown = "\n".join(f"{a}. {o}" for a, o in zip(LETTERS, item.options, strict=False))
    return f"{question}\n{shown}"


def units(text: str) -> int:
    return len(UNIT.findall(text))


def sentences(text: str) -> int:
    parts = SENTENCE.split(text)
    return len(parts) if min(map(units, parts)) >= 5 else 0


def kinds(english: list[str], chinese: list[str]) -> dict[str, tuple[Callable[[Item], bool], Edit, bool]]:
    """Name -> (which items, the edit, whether options stand beside the question)."""

    def en(item: Item) -> bool:
        return item.language == "en" and len(WORD.findall(item.question)) >= 10 and units(item.question) >= 15

    def zh(item: Item) -> bool:
        return item.language == "zh" and len(HAN.findall(item.question)) >= 15

    def short(item: Item) -> bool:
        return item.language == "zh" and 8 <= units(item.question) < 15 and len(item.options) > 3

    def either(item: Item) -> bool:
        return en(item) or zh(item)

    def choice(item: Item) -> bool:
        return either(item) and len(item.options) > 3

    word = lambda n: replace_units(n, WORD, english)  # noqa: E731
    character = lambda n: replace_units(n, HAN, chinese)  # noqa: E731
    return {
        "one word changed": (lambda i: en(i) and choice(i), word(1), True),
        "question alone, one word": (en, word(1), False),
        "two words changed": (lambda i: en(i) and choice(i), word(2), True),
        "question alone, two words": (lambda i: en(i) and units(i.question) >= 20, word(2), False),
        "typos in 1% of characters": (en, typos(0.01), False),
        "typos in 3% of characters": (en, typos(0.03), False),
        "OCR hyphenation": (en, hyphenate, False),
        "HTML tags": (either, tag, False),
        "entities": (either, entities, False),
        "look-alike letters": (en, lookalikes, False),
        "zero-width characters": (either, zero_width, False),
        "numbers changed": (lambda i: en(i) and bool(re.search(r"\d", i.question)), numbers, False),
        "Chinese, one character": (lambda i: zh(i) and choice(i), character(1), True),
        "Chinese question alone": (zh, character(1), False),
        "Chinese, two characters": (lambda i: zh(i) and units(i.question) >= 20, character(2), False),
        "Chinese, typos in 3%": (lambda i: zh(i) and units(i.question) >= 20, typos(0.03), False),
        "Chinese, short question with options": (short, character(1), True),
        "full width": (either, fullwidth, False),
        "dashes, quotes, case, micro signs": (either, dashes, False),
        "sentences reordered": (lambda i: either(i) and sentences(i.question) >= 3, reorder, False),
        "sentences dropped": (lambda i: either(i) and sentences(i.question) >= 4, drop, False),
        "nothing changed": (either, lambda rng, text: text, False),
    }


def halved(values: list[Any], name: Callable[[Any], str], half: str) -> list[Any]:
    return [v for v in values if int(hashlib.sha256(name(v).encode()).hexdigest(), 16) % 2 == (half == "blind")]


def documents(half: str) -> list[str]:
    """Texts in which nothing is planted yet: both languages, and abstracts of items of the other half."""
    found = []
    for name in ("medical_qa/en_train.jsonl", "medical_qa/zh_train.jsonl"):
        for line in (DATA / name).read_text("utf-8").splitlines():
            row = json.loads(line)
            found.append("\n".join(part for part in (row["input"] or row["instruction"], row["output"]) if part))
    found = halved(found, str, half)
    wanted = {i.id for i in halved(items_of([SOURCES[-1]]), lambda i: i.id, half)}
    return found + [i.context for i in items_of([SOURCES[-1]]) if i.id not in wanted]


def items_of(sources: Any) -> list[Item]:
    return list({i.id: i for _, found in load([DATA / s for s in sources]) for i in found}.values())


def planted(
    half: str, seed: int
) -> tuple[list[Item], list[dict[str, str]], list[tuple[str, int, str]], list[dict[str, str]]]:
    """Items, records with a leak, (kind, record, item id) of each, and records without."""
    rng = random.Random(f"{half}-{seed}")
    items = halved(items_of(SOURCES), lambda i: i.id, half)
    hosts = documents(half)
    rng.shuffle(hosts)
    text = " ".join(hosts[:3000])
    english = sorted({w.lower() for w in WORD.findall(text)})
    chinese = sorted(set(HAN.findall(text)))
    clean, hosts = hosts[:CLEAN], hosts[CLEAN:]
    records, key = [], []
    for kind, (wanted, edit, options) in kinds(english, chinese).items():
        fitting = sorted((i for i in items if wanted(i)), key=lambda i: i.id)
        for item in rng.sample(fitting, min(EACH, len(fitting))):
            leak = edit(rng, item.question)
            leak = with_options(rng, item, leak) if options else leak
            parts = SENTENCE.split(rng.choice(hosts))
            parts.insert(rng.randint(0, len(parts)), leak)
            key.append((kind, len(records), item.id))
            records.append({"text": "\n".join(parts)})
    return items, records, key, [{"text": document} for document in clean]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("develop", "blind"), default="develop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the shares found as JSON")
    parser.add_argument("--before", type=Path, help="shares of an earlier run, for a column of their own")
    parser.add_argument("--show", action="store_true", help="print what was missed, and what was found in clean text")
    args = parser.parse_args()
    items, records, key, clean = planted(args.half, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "planted.jsonl", Path(folder) / "clean.jsonl"]
        for path, rows in zip(paths, (records, clean), strict=True):
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        leaks, others = ([r for r in audit(path, items) if r["field"] != "context"] for path in paths)
    found = {(row["record"], row["item_id"]) for row in leaks}
    shares: dict[str, float] = {}
    before = json.loads(args.before.read_text())[args.half] if args.before else {}
    print(f"| edit ({args.half} half) | planted |{' before |' if before else ''} found |")
    print(f"|---|---|{'---|' if before else ''}---|")
    for kind in dict.fromkeys(kind for kind, _, _ in key):
        mine = [(record, item) for name, record, item in key if name == kind]
        shares[kind] = sum(pair in found for pair in mine) / len(mine)
        earlier = f" {before[kind]:.2f} |" if before else ""
        print(f"| {kind} | {len(mine)} |{earlier} {shares[kind]:.2f} |")
        for record, item in (pair for pair in mine if args.show and pair not in found):
            print("   missed:", next(i.question for i in items if i.id == item)[:150].replace("\n", " "))
            print("       in:", records[record]["text"][:600].replace("\n", " "))
    right = {(record, item) for _, record, item in key}
    print(f"other findings in records with a leak: {len({p for p in found if p not in right})}")
    print(f"{CLEAN:,} documents without a leak: {len(others)} findings in {len({r['record'] for r in others})} of them")
    for row in others if args.show else ():
        print(f"   {row['field']}, {row['signal']}, {row['score']:.2f}, {row.get('severity')}")
        print("      corpus:", row["corpus_text"][:200].replace("\n", " "))
        print("      item:  ", row["item_text"][:200].replace("\n", " "))
    if args.save:
        earlier = json.loads(args.save.read_text()) if args.save.exists() else {}
        args.save.write_text(json.dumps(earlier | {args.half: shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
