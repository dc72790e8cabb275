"""Documents (JSON, YAML, rows) changed in their structure, and files changed in their bytes."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import yaml

from fuzzing import texts

Path_ = tuple[Any, ...]


def odd(rng: random.Random) -> Any:
    """A value of a kind that nobody expects."""
    deep: Any = "x"
    for _ in range(rng.choice((3, 40, 400))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return rng.choice(
        (
            None, True, False, 0, 1, -1, 2, 0.5, 1e308, float("inf"), float("-inf"), float("nan"), 10**30, -(2**63),
            1 << 64, 1e-320,
            "", " ", "A", "yes", "1", "nan", "1e5", "x" * 5000, [], {}, [[]], [None], [{}], [1, "a", None], {"": ""},
            {"a": None},
            {"text": "x"}, [[["a"]]], "a,b", ["A", "B"], {"A": "a", "B": "b"}, "[1", '{"a": 1}', deep,
            texts.word(rng), texts.word(rng), [texts.word(rng)], {texts.word(rng): texts.word(rng)},
        )
    )  # fmt: skip


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """The path of every value inside, the whole included."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*at, index))


def changed(rng: random.Random, value: Any, times: int | None = None) -> Any:
    """A copy with a few places replaced, dropped, doubled, renamed, wrapped, or swapped with another."""
    value = copy.deepcopy(value)
    for _ in range(times if times is not None else 1 + min(5, int(rng.expovariate(0.7)))):
        known = list(places(value))
        at = known[rng.randrange(len(known))]
        if not at:
            if rng.random() < 0.05:
                value = odd(rng)
            continue
        holder = value
        for step in at[:-1]:
            holder = holder[step]
        _change(rng, holder, at[-1], value, known)
    return value


def _change(rng: random.Random, holder: Any, key: Any, whole: Any, known: list[Path_]) -> None:
    kind = rng.random()
    if kind < 0.4:
        holder[key] = odd(rng)
    elif kind < 0.55:
        del holder[key]
    elif kind < 0.65:
        if isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        else:
            holder[texts.word(rng)] = copy.deepcopy(holder[key])
    elif kind < 0.72:
        if isinstance(holder, dict):
            holder[rng.choice((texts.word(rng), str(key).upper(), f" {key}"))] = holder.pop(key)
        else:
            rng.shuffle(holder)
    elif kind < 0.8:
        holder[key] = [holder[key]] if rng.random() < 0.5 else {"value": holder[key]}
    elif kind < 0.9:
        holder[key] = _rewritten(rng, holder[key])
    else:
        other: Any = whole
        for step in known[rng.randrange(len(known))]:
            other = other[step]
        holder[key] = copy.deepcopy(other) if other is not whole else odd(rng)


def _rewritten(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return rng.choice((-value, value * 1e9, value + 0.5, str(value), f"{value}", [value]))
    if isinstance(value, str):
        return rng.choice(
            (texts.word(rng), value + texts.word(rng), value * 3, value[: len(value) // 2], texts.text(rng, 300))
        )
    return str(value)


def damaged(rng: random.Random, data: bytes, times: int | None = None) -> bytes:
    """A copy with bytes flipped, cut out, doubled or put in, or the end lost."""
    kept = bytearray(data)
    for _ in range(times if times is not None else 1 + int(rng.expovariate(0.6))):
        if not kept:
            break
        kind, at = rng.random(), rng.randrange(len(kept))
        length = 1 + int(rng.expovariate(0.05))
        if kind < 0.45:
            kept[at] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            del kept[at:]
        elif kind < 0.72:
            del kept[at : at + length]
        elif kind < 0.84:
            kept[at:at] = kept[at : at + length]
        elif kind < 0.92:
            kept[at:at] = (
                rng.choice(
                    (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\r", b"\n", b'"', b",", b"[", b"\xed\xa0\x80")
                )
                * 3
            )
        else:
            kept[at : at + length] = rng.randbytes(length)
    return bytes(kept)


def as_json(rng: random.Random, value: Any) -> str:
    """JSON text, as one tool or another writes it."""
    try:
        return json.dumps(value, ensure_ascii=rng.random() < 0.3, indent=rng.choice((None, None, None, 2)))
    except (RecursionError, ValueError):
        return "[" * 2000


def as_json_lines(rng: random.Random, rows: Any) -> str:
    """One row a line."""
    rows = rows if isinstance(rows, list) else [rows]
    return "".join(
        as_json(rng, row).replace("\n", " ") + rng.choice(("\n", "\n", "\n", "\r\n", "\n\n")) for row in rows
    )


def as_yaml(rng: random.Random, value: Any) -> str:
    """YAML text; where YAML cannot write a value, JSON, which is YAML."""
    try:
        return yaml.safe_dump(
            value, allow_unicode=rng.random() < 0.7, default_flow_style=rng.choice((None, False)), sort_keys=False
        )
    except (yaml.YAMLError, RecursionError, ValueError, UnicodeError):
        return as_json(rng, value)


def encoded(rng: random.Random, text: str) -> tuple[bytes, str]:
    """The text as bytes, and an encoding that is mostly the right one."""
    written = rng.choices(("utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "latin-1"), (80, 4, 4, 4, 4, 4))[0]
    told = (
        written
        if rng.random() < 0.7
        else rng.choice(("utf-8", "gb18030", "utf-16", "ascii", "no-such", "utf-7", "idna", "hex", "cp037"))
    )
    return text.encode(
        written, rng.choice(("surrogatepass", "replace")) if written.startswith("utf") else "replace"
    ), told


def compressed(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """The bytes as they are, or compressed, and the ending that says so."""
    kind = rng.random()
    if kind < 0.75:
        return data, ""
    if kind < 0.88:
        return gzip.compress(data, 1), ".gz"
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(data), ".zst"
