"""The leakage audit beside MinHash LSH by datasketch and rensa: speed, recall, precision, memory, in one run.

    pip install -e '.[bench]'
    python benchmarks/leakage.py [--megabytes 200] [--work DIR] [--ray]

The corpus is made here from ../shared/data by seeded recombination: English and Chinese, plain documents and
instruction records, about 1,070 bytes each, with items planted exactly, nearly (a few units edited), embedded in
documents, and with permuted options. Nothing that is compared knows what was planted.

The competitors run interleaved on one core, and times are processor time, so that other work on the machine counts for
nobody. All of them start at the bytes on disk: JSON parsing is included. The peers get the same units and shingles from
one regular expression, which is faster than any tokeniser of theirs; they run on a slice, because the whole corpus
would take them hours, and each MinHash hit is counted as it comes, without verification.

Brute force is exact: plain Python sets of shingles as strings, compared with every item that shares a shingle (others
have a Jaccard index of 0); a random subset is compared with literally every item.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import statistics
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medbench.leakage.against import load
from medbench.leakage.corpus import shards
from medbench.leakage.engine import run
from medbench.leakage.index import Thresholds, build
from medbench.leakage.targets import targets_of
from medbench.sources.items import Item

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BYTES_PER_DOCUMENT = 1_070
ITEMS = 12_000
PLANTED = 1_000  # of each of the four kinds
UNIT = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
PERMUTATIONS = 128


def units(text: str) -> list[str]:
    return UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def shingle_set(text: str) -> set[str]:
    words = units(text)
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


# ---- the data


def sentences(name: str) -> list[str]:
    texts = []
    for line in (DATA / name).read_text("utf-8").splitlines():
        row = json.loads(line)
        texts += [row["instruction"], row["input"], row["output"]]
    found = {s.strip() for text in texts for s in re.split(r"(?<=[.?!。？！])", text)}
    return sorted(s for s in found if len(units(s)) >= 4)


def novel(rng: random.Random, pool: list[str], vocabulary: list[str], share: float) -> str:
    """A sentence that no source holds: each unit is replaced by a random one with probability `share`."""
    return UNIT.sub(lambda m: rng.choice(vocabulary) if rng.random() < share else m[0], rng.choice(pool))


def make_items(rng: random.Random, pools: list[tuple[list[str], list[str]]]) -> list[Item]:
    sources = ["medical_qa/zh_valid.jsonl", "medical_qa/en_valid.jsonl", "medqa/us_4_options_test.jsonl"]
    sources += ["cmexam/val_even.csv", "pubmedqa/ori_pqal.json"]
    items = {i.id: i for _, found in load([DATA / s for s in sources]) for i in found}
    while len(items) < ITEMS:
        pool, vocabulary = rng.choice(pools)
        parts = [novel(rng, pool, vocabulary, 0.6) for _ in range(rng.randint(1, 4))]
        options = tuple(" ".join(units(novel(rng, pool, vocabulary, 0.6))[:6]) for _ in range(4))
        language = "zh" if pool is pools[1][0] else "en"
        item = Item(question=" ".join(parts), language=language, options=options, answer=(rng.choice("ABCD"),))
        if len(set(options)) == 4:
            items.setdefault(item.id, item)
    return list(items.values())[:ITEMS]


def edited(rng: random.Random, text: str, vocabulary: list[str]) -> str:
    """One to three units replaced."""
    words = list(UNIT.finditer(text))
    for match in sorted(rng.sample(words, min(len(words), rng.randint(1, 3))), key=lambda m: -m.start()):
        text = text[: match.start()] + rng.choice(vocabulary) + text[match.end() :]
    return text


def make_corpus(rng: random.Random, path: Path, items: list[Item], size: int) -> dict[str, list[tuple[int, str]]]:
    pools = _pools()
    count = size // BYTES_PER_DOCUMENT
    long_enough = [item for item in items if len(units(item.question)) >= 10]
    choices = [item for item in long_enough if item.options]
    planted: dict[str, list[tuple[int, str]]] = {kind: [] for kind in ("exact", "near", "embedded", "permuted")}
    slots = dict(zip(rng.sample(range(count), 4 * PLANTED), [k for k in planted for _ in range(PLANTED)], strict=True))
    written = 0
    with open(path, "w", encoding="utf-8") as handle:
        for number in range(count):
            pool, vocabulary = rng.choice(pools)
            # what is left to write, spread over what is left of the documents
            wanted = 2 * rng.random() * (size - written) / (count - number)
            parts, held = [], 0
            while held < wanted or not parts:
                parts.append(rng.choice(pool) if rng.random() < 0.5 else novel(rng, pool, vocabulary, 0.15))
                held += len(parts[-1].encode())
            kind = slots.get(number)
            if kind:
                item = rng.choice(choices if kind == "permuted" else long_enough)
                planted[kind].append((number, item.id))
                text = item.question
                if kind == "near":
                    text = edited(rng, text, vocabulary)
                if kind == "permuted":
                    options = rng.sample(item.options, len(item.options))
                    text += "\n" + "\n".join(
                        f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", options, strict=False)
                    )
                if kind in ("exact", "near"):
                    parts = [text]
                else:
                    parts.insert(rng.randint(0, len(parts)), text)
            text = " ".join(parts)
            if number % 2 or kind in ("exact", "near"):
                row = {"id": number, "text": text}
            else:
                cut = len(text) // 2 if not kind else 0
                row = {"instruction": text[:cut], "input": "", "output": text[cut:]}
            line = json.dumps(row, ensure_ascii=False) + "\n"
            handle.write(line)
            written += len(line.encode())
    return planted


def _pools() -> list[tuple[list[str], list[str]]]:
    pools = [sentences("medical_qa/en_train.jsonl"), sentences("medical_qa/zh_train.jsonl")]
    return [(pool, sorted({unit for sentence in pool for unit in units(sentence)})) for pool in pools]


# ---- the competitors: each reads lines, and returns what it found


def documents(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines):
        yield number, [value for value in json.loads(line).values() if isinstance(value, str) and value]


class Datasketch:
    """One MinHash per text, as the documentation has it: `update` in a loop, or `bulk` over a thousand texts."""

    def __init__(self, items: list[Item], bulk: bool) -> None:
        from datasketch import MinHash, MinHashLSH

        self.minhash, self.bulk = MinHash, bulk
        self.lsh = MinHashLSH(threshold=0.8, num_perm=PERMUTATIONS)
        for number, item in enumerate(items):
            for target in targets_of(item, number):
                shingles = set().union(*map(shingle_set, target.texts))
                if shingles:
                    (digest,) = MinHash.bulk([[s.encode() for s in shingles]], num_perm=PERMUTATIONS)
                    self.lsh.insert((item.id, target.field), digest)

    def __call__(self, lines: list[str]) -> set[tuple[int, str]]:
        found = set()
        pending: list[tuple[int, list[bytes]]] = []
        for number, texts in documents(lines):
            for text in texts:
                shingles = [s.encode() for s in shingle_set(text)]
                if not self.bulk:
                    digest = self.minhash(num_perm=PERMUTATIONS)
                    for shingle in shingles:
                        digest.update(shingle)
                    found |= {(number, key[0]) for key in self.lsh.query(digest)}
                elif shingles:
                    pending.append((number, shingles))
            if len(pending) >= 1000:
                found |= self._flush(pending)
        return found | self._flush(pending)

    def _flush(self, pending: list[tuple[int, list[bytes]]]) -> set[tuple[int, str]]:
        digests = self.minhash.bulk([shingles for _, shingles in pending], num_perm=PERMUTATIONS)
        found = {(n, key[0]) for (n, _), d in zip(pending, digests, strict=True) for key in self.lsh.query(d)}
        pending.clear()
        return found


class Rensa:
    """One RMinHash per text with its LSH of 16 bands of 8 rows, as its README has it."""

    def __init__(self, items: list[Item]) -> None:
        import rensa

        self.minhash = rensa.RMinHash
        self.lsh = rensa.RMinHashLSH(threshold=0.8, num_perm=PERMUTATIONS, num_bands=16)
        self.keys: list[str] = []
        for number, item in enumerate(items):
            for target in targets_of(item, number):
                shingles = set().union(*map(shingle_set, target.texts))
                if shingles:
                    self.lsh.insert(len(self.keys), self._digest(shingles))
                    self.keys.append(item.id)

    def _digest(self, shingles: set[str]) -> Any:
        digest = self.minhash(PERMUTATIONS, 42)
        digest.update(list(shingles))
        return digest

    def __call__(self, lines: list[str]) -> set[tuple[int, str]]:
        found = set()
        for number, texts in documents(lines):
            for text in texts:
                shingles = shingle_set(text)
                if shingles:
                    found |= {(number, self.keys[k]) for k in self.lsh.query(self._digest(shingles))}
        return found


def brute_force(path: Path, items: list[Item]) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
    """Pairs (record, item) with Jaccard > 0.8, and pairs where the record holds the whole question."""
    sets, owners, questions = [], [], set()
    for number, item in enumerate(items):
        for target in targets_of(item, number):
            if target.field == "options":
                continue
            if target.field == "question" and len(units(item.question)) >= 10:
                questions.add(len(sets))
            sets.append(set().union(*map(shingle_set, target.texts)))
            owners.append(item.id)
    holders: dict[str, list[int]] = {}
    for number, shingles in enumerate(sets):
        for shingle in shingles:
            holders.setdefault(shingle, []).append(number)
    near, embedded = set(), set()
    with open(path, encoding="utf-8") as handle:
        for number, texts in documents(handle):
            views = [shingle_set(text) for text in texts]
            whole = set().union(*views)
            views.append(whole)
            hits = Counter(k for shingle in whole if shingle in holders for k in holders[shingle])
            for k, shared in hits.items():
                if shared == len(sets[k]) and k in questions:
                    embedded.add((number, owners[k]))
                if shared / len(sets[k]) > 0.8 and any(len(sets[k] & v) / len(sets[k] | v) > 0.8 for v in views):
                    near.add((number, owners[k]))
    return near, embedded


def all_pairs(path: Path, items: list[Item], numbers: set[int]) -> set[tuple[int, str]]:
    """Literally every text of some records against every field of every item."""
    targets = [t for n, item in enumerate(items) for t in targets_of(item, n) if t.field != "options"]
    sets = [(items[t.item].id, set().union(*map(shingle_set, t.texts))) for t in targets]
    found = set()
    with open(path, encoding="utf-8") as handle:
        for number, texts in documents(handle):
            if number in numbers:
                views = [shingle_set(text) for text in texts]
                views.append(set().union(*views))
                for identifier, wanted in sets:
                    if wanted and any(len(wanted & v) / len(wanted | v) > 0.8 for v in views):
                        found.add((number, identifier))
    return found


# ---- measuring


def processor_time(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.process_time()
    result = work()
    return time.process_time() - before, result


def scan(index: Any, path: Path) -> list[dict[str, Any]]:
    rows, first = [], 0
    for _, content in run(index, list(enumerate(shards([str(path)])))):
        header, *found = map(json.loads, content.splitlines())
        rows += [row | {"record": row["record"] + first} for row in found]
        first += header["records"]
    return rows


def scan_only(index: Any, path: Path) -> int:
    return sum(len(content) for _, content in run(index, list(enumerate(shards([str(path)])))))


def race(
    index: Any, exact: Any, path: Path, items: list[Item], lines: list[str], leaks: list[str], rounds: int
) -> dict[str, set[tuple[int, str]]]:
    """Print the speed of all competitors, interleaved; return what the peers find in the lines `leaks`.

    Args:
        index, exact: with and without the search for edited copies; ratios are those of `exact`.
    """
    slices = {
        "datasketch update": lines[:1500],
        "datasketch bulk": lines[:6000],
        "rensa": lines[:12000],
    }
    runs: dict[str, Callable[[], Any]] = {"medbench --edited 0": lambda: scan_only(exact, path)}
    runs["medbench"] = lambda: scan_only(index, path)
    update, bulk, rensa = Datasketch(items, False), Datasketch(items, True), Rensa(items)
    runs["datasketch update"] = lambda: update(slices["datasketch update"])
    runs["datasketch bulk"] = lambda: bulk(slices["datasketch bulk"])
    runs["rensa"] = lambda: rensa(slices["rensa"])
    gc.collect()
    gc.freeze()  # Python's collector shall not walk the indexes of all in the time of one
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, work in runs.items():
            times[name].append(processor_time(work)[0])
    sizes = {name: sum(len(line.encode()) + 1 for line in taken) / 1e6 for name, taken in slices.items()}
    sizes = {name: sizes.get(name, path.stat().st_size / 1e6) for name in runs}
    speed = {name: sizes[name] / statistics.median(measured) for name, measured in times.items()}
    exactly, ours = speed["medbench --edited 0"], speed["medbench"]
    for name in runs:
        against = (
            f"exact signals {exactly / speed[name]:.2f} times as fast, with edited copies {ours / speed[name]:.2f}"
        )
        print(f"{name:20} {speed[name]:8.2f} MB/s on {sizes[name]:6.1f} MB; {against}")
    return {"datasketch": bulk(leaks), "rensa": rensa(leaks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("/tmp/medbench-leakage"))
    parser.add_argument("--ray", action="store_true", help="also time Ray with one and two workers")
    parser.add_argument("--copies", type=int, default=1, help="the corpus so many times over, for one and two workers")
    parser.add_argument("--workers-only", action="store_true", help="one and two workers, and nothing else")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20260101)
    items = make_items(rng, _pools())
    path = args.work / "corpus.jsonl"
    planted = make_corpus(rng, path, items, args.megabytes * 1_000_000)
    size = path.stat().st_size / 1e6
    wanted = sorted({number for pairs in planted.values() for number, _ in pairs})
    lines, leaks, records = some_lines(path, 12_000, set(wanted))
    print(f"corpus: {size:.0f} MB, {records:,} records; {len(items):,} items; {PLANTED} planted of each kind")

    exact = build([("items", items)], Thresholds(edited=0))
    seconds, index = processor_time(lambda: build([("items", items)], Thresholds()))
    print(f"index: {seconds:.1f} s, {index.nbytes / 1e6:.0f} MB, {index.distinct:,} distinct shingles")
    for one in (exact, index):
        scan_only(one, path)  # compiles, and fills the page cache
    if args.workers_only:
        two_workers(index, path, args.rounds, args.ray, args.copies)
        return

    peers = race(index, exact, path, items, lines, leaks, args.rounds)
    del lines, leaks
    near, embedded = brute_force(path, items)
    rows = scan(index, path)
    found = {(row["record"], row["item_id"]) for row in rows if row["signal"] == "jaccard"}
    print(f"Jaccard > 0.8: brute force {len(near)} pairs, medbench {len(found)}; {accuracy(found, near)}")
    contained = {(r["record"], r["item_id"]) for r in rows if r["field"] == "question" and r["signal"] == "containment"}
    print(f"fully embedded questions: {len(embedded)} pairs, found {len(embedded & contained)}")
    for kind, pairs in planted.items():
        print(
            f"  planted {kind}: {len(set(pairs) & {(r['record'], r['item_id']) for r in rows})} of {len(pairs)} found"
        )
    permuted = {(r["record"], r["item_id"]) for r in rows if r["signal"] == "option_set"}
    print(f"  planted permuted, with the option set reported: {len(set(planted['permuted']) & permuted)}")
    subset = {number for number, _ in rng.sample(sorted(near), 100)} | set(rng.sample(range(records), 100))
    literal = all_pairs(path, items, subset)
    print(f"all pairs on {len(subset)} records: {accuracy({pair for pair in found if pair[0] in subset}, literal)}")
    # the peers' quality on the planted records alone, so that it is over by today
    truth = {pair for pair in near if pair[0] in set(wanted)}
    inside = set(planted["embedded"])
    for name, numbered in peers.items():
        hits = {(wanted[number], identifier) for number, identifier in numbered}
        print(
            f"{name} on planted records: {accuracy(hits, truth)}; embedded found {len(inside & hits)} of {len(inside)}"
        )

    for label, more in (("1 job", []), ("2 jobs", ["--jobs", "2"])):
        measured = [command(args.work, path, items, more) for _ in range(args.rounds)]
        wall = statistics.median(m[0] for m in measured)
        print(f"medbench audit, {label}: {wall:.1f} s wall, {max(m[1] for m in measured):.0f} MB peak per process")
    two_workers(index, path, args.rounds, args.ray, args.copies)


def two_workers(index: Any, path: Path, rounds: int, with_ray: bool, copies: int) -> None:
    """The scan of `copies` times the corpus by one and by two workers, in turn. A Ray cluster runs before it begins."""
    folder = path.parent / "copies"
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number}.jsonl" for number in range(copies)]
    for file in files:
        file.unlink(missing_ok=True)
        file.hardlink_to(path)
    names = [str(file) for file in files]
    if with_ray:
        import ray

        before = time.perf_counter()
        store = 4 * index.nbytes + (200 << 20)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=store)
        print(f"starting a Ray cluster: {time.perf_counter() - before:.1f} s")
    engines = ("local", "ray") if with_ray else ("local",)
    walls: dict[tuple[str, int], list[float]] = {(engine, jobs): [] for engine in engines for jobs in (1, 2)}
    for _ in range(rounds):
        for engine, jobs in walls:
            walls[engine, jobs].append(wall_time(index, names, engine, jobs))
    one = statistics.median(walls["local", 1])
    for (engine, jobs), found in walls.items():
        wall = statistics.median(found)
        gains = ", ".join(f"{alone / each:.2f}" for alone, each in zip(walls["local", 1], found, strict=True))
        name = f"scan of {copies} copies, {engine}, {jobs} workers"
        print(f"{name}: {wall:.2f} s, {one / wall:.2f} times one core ({gains})")


def some_lines(path: Path, first: int, wanted: set[int]) -> tuple[list[str], list[str], int]:
    """The first lines of a file, those wanted by number, and the number of all."""
    head, chosen, number = [], [], -1
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle):
            if number < first:
                head.append(line)
            if number in wanted:
                chosen.append(line)
    return head, chosen, number + 1


def accuracy(found: set[Any], truth: set[Any]) -> str:
    both = len(found & truth)
    return f"recall {both / max(1, len(truth)):.4f}, precision {both / max(1, len(found)):.4f}"


def _row(item: Item) -> dict[str, Any]:
    reference = "explanation" if item.options or item.answer else "output"
    row = {"question": item.question, "options": item.options, "answer": ",".join(item.answer), "context": item.context}
    return row | {reference: item.reference}


def wall_time(index: Any, files: list[str], engine: str, jobs: int) -> float:
    before = time.perf_counter()
    for _ in run(index, list(enumerate(shards(files))), engine=engine, jobs=jobs):
        pass
    return time.perf_counter() - before


def command(work: Path, path: Path, items: list[Item], more: list[str]) -> tuple[float, float]:
    """Wall seconds and peak megabytes of the whole command in a process of its own."""
    saved = work / "items.jsonl"
    if not saved.exists():
        rows = [_row(item) for item in items]
        saved.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    arguments = ["audit", str(path), "--against", str(saved), "--out", str(work / "out"), *more]
    before = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "medbench.cli", *arguments], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)  # ru_maxrss would start from this process's own size
        peak = max(peak, int(match[1]) / 1024 if match else 0.0)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"medbench audit failed with status {process.returncode}")
    return time.perf_counter() - before, peak


if __name__ == "__main__":
    main()
