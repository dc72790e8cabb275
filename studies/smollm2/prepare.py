"""What the study reads, cut out of the published files: the items that are tested, and the text that is trained on.

Nothing is in both: PT text comes from PubMedQA's 500 abstracts outside the publisher's test ids, SFT rows from another
file than F5's. Whether the same text hides there all the same is the audit's to say.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.manifest import sha256_file, write_atomic, write_manifest

# What of DATA is read (../shared/data/README.md says where it was published).
MEDQA = "medqa/us_4_options_test.jsonl"
PUBMEDQA = "pubmedqa/ori_pqal.json"
PUBMEDQA_TEST = "pubmedqa/test_ground_truth.json"
F5 = "medical_qa/en_valid.jsonl"
SFT = "medical_qa/en_train.jsonl"


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many items are tested, and how many documents and conversations are trained on; the first ones of a file."""

    medqa: int = 200
    pubmedqa: int = 200
    f5: int = 64
    pt: int = 500
    sft: int = 1100


def prepare(data: Path, out: Path, amounts: Amounts) -> None:
    """Write `out/tested` (in the publishers' formats), `out/corpus/pt.jsonl` and `out/corpus/sft.jsonl`.

    Raises:
        MedbenchError: a file of `data` is missing, or holds too few rows.
    """
    files = {name: data / name for name in (MEDQA, PUBMEDQA, PUBMEDQA_TEST, F5, SFT)}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise MedbenchError(
            f"--data {data}: it must be the folder of the published files, and lacks {', '.join(missing)}."
        )
    for folder in ("tested", "corpus"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    labelled = json.loads(files[PUBMEDQA].read_text("utf-8"))
    test_ids = json.loads(files[PUBMEDQA_TEST].read_text("utf-8"))
    tested = _first(files[PUBMEDQA], amounts.pubmedqa, (key for key in labelled if key in test_ids))
    trained = _first(files[PUBMEDQA], amounts.pt, (key for key in labelled if key not in test_ids))
    write_atomic(out / "tested" / "pubmedqa.json", json.dumps({key: labelled[key] for key in tested}, indent=1) + "\n")
    _lines(out / "tested" / "medqa.jsonl", _first(files[MEDQA], amounts.medqa, _rows(files[MEDQA])))
    _lines(out / "tested" / "f5.jsonl", _first(files[F5], amounts.f5, _rows(files[F5])))
    _lines(out / "corpus" / "pt.jsonl", (abstract(key, labelled[key]) for key in trained))
    _lines(out / "corpus" / "sft.jsonl", _first(files[SFT], amounts.sft, _rows(files[SFT])))
    write_manifest(
        out,
        "study data",
        settings={"amounts": vars(amounts)},
        inputs={name: sha256_file(file) for name, file in files.items()},
    )


def abstract(key: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """A whole abstract as plain text: PubMedQA keeps its conclusion apart, as the long answer."""
    return {"pubid": key, "text": "\n".join([*entry["CONTEXTS"], entry["LONG_ANSWER"]])}


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip())


def _first(file: Path, count: int, rows: Iterable[Any]) -> list[Any]:
    found = list(itertools.islice(rows, count))
    if len(found) < count:
        raise MedbenchError(f"{file} holds {len(found)} rows for this part, {count} are needed.")
    return found


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
