"""How many findings on real text are real: a seeded sample to read, and the count of what was read.

    python benchmarks/leakage_precision.py sample [--size 60] [--seed 13]
    python benchmarks/leakage_precision.py count

The corpus is ../shared/data/medical_qa/zh_train.jsonl; the items are F6 (zh_valid) and CMExam's validation half, which
share sources with it. A finding is read by a person with both sides before them, and is right where the record holds
the item's text or a passage of it (or an edited form), wrong where both only speak of the same thing. `stock` says that
the passage is a stock paragraph of the publisher's, which answers of many questions end with: the text is shared, and
tells nothing of the item. Severities are sampled evenly, as far as there are enough. `leakage_precision.jsonl` holds
the labels without any text.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from medbench.leakage import audit
from medbench.stats import clopper_pearson

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LABELS = Path(__file__).with_suffix(".jsonl")
SEVERITIES = ("certain", "likely", "look at it")
KEY = ("record", "item_id", "field", "signal")


def findings() -> list[dict[str, Any]]:
    items = [DATA / "medical_qa/zh_valid.jsonl", DATA / "cmexam/val_even.csv"]
    return [row for row in audit(DATA / "medical_qa/zh_train.jsonl", items) if row["field"] != "context"]


def sampled(rows: list[dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """An equal part of each severity, and what is left of `size` from the rest; one finding a record and item."""
    rng = random.Random(seed)
    leaks = {(row["record"], row["item_id"]): row for row in rng.sample(rows, len(rows))}
    by = {name: [row for row in leaks.values() if row["severity"] == name] for name in SEVERITIES}
    chosen = [row for name in SEVERITIES for row in by[name][: size // len(SEVERITIES)]]
    rest = [row for name in SEVERITIES for row in by[name][size // len(SEVERITIES) :]]
    return chosen + rng.sample(rest, min(len(rest), size - len(chosen)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sample", "count"))
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--seed", type=int, default=13)
    args = parser.parse_args()
    rows = findings()
    print(f"{len(rows)} findings:", dict(Counter(row["severity"] for row in rows)))
    if args.what == "sample":
        for number, row in enumerate(sampled(rows, args.size, args.seed)):
            key = json.dumps({name: row[name] for name in KEY} | {"severity": row["severity"]}, ensure_ascii=False)
            print(f"\n{number}. {row['score']:.2f} {key}")
            print(f"   corpus: {row['corpus_text']!r}\n   item:   {row['item_text']!r}")
        return
    labels = [json.loads(line) for line in LABELS.read_text("utf-8").splitlines()]
    found = {tuple(row[name] for name in KEY): row["severity"] for row in rows}
    known = [(found[key], label["right"]) for label in labels if (key := tuple(label[n] for n in KEY)) in found]
    print(f"{len(labels)} findings were read, {len(known)} of them are found today")
    for name in (*SEVERITIES, "all"):
        mine = [right for severity, right in known if name in (severity, "all")]
        if mine:
            share = clopper_pearson(sum(mine), len(mine))
            interval = f"{share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}]"
            print(f"{name}: {sum(mine)} of {len(mine)} right, {interval}")
    print(f"stock paragraphs among them: {sum(label['stock'] for label in labels)}")


if __name__ == "__main__":
    main()
