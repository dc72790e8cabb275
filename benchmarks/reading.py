"""Reading real outputs: medbench beside the parsers of Inspect, lm-evaluation-harness and OpenCompass.

    python benchmarks/reading.py                               # both halves, every parser
    python benchmarks/reading.py --half development --wrong    # and the outputs that are read wrongly
    python benchmarks/reading.py --time                        # milliseconds an output, one core

`outputs/outputs.jsonl` holds real outputs with the letter that each states by its own structure, and the item's key;
`cases/reading.jsonl` holds small inputs with the right value. The 18 models are split once, in two halves: rules are
written while looking at the development half only, and the held-out half shows what they do to models not looked at.

The peers are their own code, read from the installed packages (`pip install --no-deps lm-eval==0.4.13
opencompass==0.5.4`); a peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import re
import sys
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from medbench.answers import extract_choice, extract_decision
from medbench.scoring.extractors import extract

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Row = dict[str, Any]
Parser = Callable[[Row], str]  # the letter, "" where none is found


def halves(rows: list[Row]) -> dict[tuple[str, str], str]:
    """(source, model) -> development or heldout: of the models in the order of (first source, model), every second.

    A model that answers two sources is in one half with both.
    """
    first: dict[str, str] = {}
    for source, model in sorted({(row["source"], row["model"]) for row in rows}):
        first.setdefault(model, source)
    order = sorted(first, key=lambda model: (first[model], model))
    half = {model: ("development", "heldout")[place % 2] for place, model in enumerate(order)}
    return {(row["source"], row["model"]): half[row["model"]] for row in rows}


def medbench_choice(row: Row) -> str:
    """medbench's own reading; several letters are no answer to these items."""
    found = extract_choice(row["text"], row["letters"], choices=row["choices"], question=row["question"])
    return "".join(found.letters)


def inspect_choice(row: Row) -> str:
    """Inspect's `multiple_choice()` solver's parser."""
    return "".join(extract("inspect", row["text"], row["letters"]).letters)


def lm_eval_parsers() -> dict[str, Parser]:
    """The filters of lm-evaluation-harness: mmlu_pro's custom-extract, and the flexible-extract of gpqa and mmlu."""
    from lm_eval.filters.extraction import MultiChoiceRegexFilter, RegexFilter

    strict = RegexFilter(r"answer is \(?([ABCDEFGHIJ])\)?")
    flexible = MultiChoiceRegexFilter(r"(\([A-Z]\))", group_select=-1, ignore_case=True, ignore_punctuation=True)

    # It goes through all of Unicode anew for every call.
    marks = {code: None for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P")}
    dict_fromkeys = SimpleNamespace(fromkeys=lambda *_: marks)
    vars(sys.modules[MultiChoiceRegexFilter.__module__])["dict"] = dict_fromkeys

    def parser(one: Any) -> Parser:
        def parse(row: Row) -> str:
            with contextlib.suppress(Exception):  # a text that its fallback patterns cannot take
                found = next(iter(one.apply([[row["text"]]], [{"choices": row["choices"]}])))[0]
                letter = re.sub(r"[^A-Z]", "", str(found))
                return letter if len(letter) == 1 else ""
            return ""

        return parse

    return {"lm-eval strict": parser(strict), "lm-eval flexible": parser(flexible)}


def opencompass_parsers() -> dict[str, Parser]:
    """OpenCompass's first_option_postprocess, read from its one file: the package itself wants a whole lab."""
    spec = importlib.util.find_spec("opencompass")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("opencompass")
    registry = ModuleType("opencompass.registry")
    registry.TEXT_POSTPROCESSORS = SimpleNamespace(register_module=lambda *a, **k: lambda f: f)  # type: ignore[attr-defined]
    sys.modules["opencompass.registry"] = registry
    path = Path(spec.submodule_search_locations[0]) / "utils" / "text_postprocessors.py"
    file = importlib.util.spec_from_file_location("opencompass_text_postprocessors", path)
    assert file is not None
    assert file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return {"OpenCompass": lambda row: str(module.first_option_postprocess(row["text"], row["letters"]))}


def parsers(console: Console) -> dict[str, Parser]:
    """Every parser that is here, medbench's first."""
    found: dict[str, Parser] = {"medbench": medbench_choice, "Inspect": inspect_choice}
    for name, make in (("lm-eval", lm_eval_parsers), ("OpenCompass", opencompass_parsers)):
        try:
            found |= make()
        except ImportError as error:
            console.print(f"{name} is left out: {error.name or error} is not installed")
    return found


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def print_half(console: Console, half: str, rows: list[Row], readers: dict[str, Parser]) -> list[Row]:
    """One table; returns the rows that medbench reads otherwise than they state."""
    table = Table(title=f"{half}: {len(rows)} outputs", title_justify="left")
    others = [name for name in readers if name != "medbench"]
    for name in ("source", "model", "n", "equal %", "wrong %", "abstained %", "key: stated", "key: medbench", "diff"):
        table.add_column(name, justify="left" if name in ("source", "model") else "right")
    for name in others:
        table.add_column(f"{name} equal/wrong", justify="right")
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["source"], row["model"]].append(row)
    missed = []
    for (source, model), group in [*sorted(groups.items()), (("all", ""), rows)]:
        said = [readers["medbench"](row) for row in group]
        equal = sum(s == row["stated"] for s, row in zip(said, group, strict=True))
        silent = sum(not s for s in said)
        stated = sum(row["stated"] == row["key"] for row in group)
        right = sum(s == row["key"] for s, row in zip(said, group, strict=True))
        cells = [str(len(group)), share(equal, len(group)), f"{100 * (len(group) - equal - silent) / len(group):.2f}"]
        cells += [share(silent, len(group)), share(stated, len(group)), share(right, len(group))]
        cells.append(f"{100 * (right - stated) / len(group):+.1f}")
        for name in others:
            letters = [readers[name](row) for row in group]
            hits = sum(s == row["stated"] for s, row in zip(letters, group, strict=True))
            wrong = sum(bool(s) and s != row["stated"] for s, row in zip(letters, group, strict=True))
            cells.append(f"{share(hits, len(group))}/{share(wrong, len(group))}")
        table.add_row(source, model, *cells)
        if source != "all":
            missed += [row | {"said": s} for s, row in zip(said, group, strict=True) if s != row["stated"]]
    console.print(table)
    return missed


def print_cases(console: Console, path: Path, readers: dict[str, Parser]) -> None:
    """The small inputs, read by medbench and, where they are choices, by the peers."""
    cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    choices = [case for case in cases if case["function"] == "extract_choice"]
    table = Table(title=f"{path.name}: {len(choices)} choices (null: no letter)", title_justify="left")
    table.add_column("parser")
    table.add_column("right", justify="right")
    for name, reader in readers.items():
        filled = [case | {"choices": case.get("choices", []), "question": None} for case in choices]
        if name == "medbench":
            said = [read_case(case) for case in choices]
        else:
            said = [reader(case | {"text": case["input"]}) for case in filled]
        table.add_row(name, str(sum(s == (case["expected"] or "") for s, case in zip(said, choices, strict=True))))
    console.print(table)
    for case in cases:
        value = read_case(case)
        if case["function"] != "classify" and value != (case["expected"] or ""):
            console.print(f"  {case['input']!r}: read {value or 'none'}, expected {case['expected']}", markup=False)


def read_case(case: Row) -> str:
    """What medbench reads in one line of the cases: a letter or decision, "" for none."""
    if case["function"] == "extract_decision":
        return "".join(extract_decision(case["input"]).letters)
    known = {key: case[key] for key in ("choices", "question", "multiple") if key in case}
    return "".join(extract_choice(case["input"], case.get("letters", "ABCD"), **known).letters)


def print_time(console: Console, rows: list[Row]) -> None:
    """The least of three passes, in process time."""
    passes = []
    for _ in range(3):
        start = time.process_time()
        for row in rows:
            medbench_choice(row)
        passes.append(time.process_time() - start)
    console.print(
        f"{1000 * min(passes) / len(rows):.3f} ms an output ({len(rows)} outputs, least of 3 passes, one core)"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=SHARED)
    arguments.add_argument("--half", choices=("development", "heldout", "both"), default="both")
    arguments.add_argument("--wrong", action="store_true", help="list what medbench reads otherwise than it is stated")
    arguments.add_argument("--time", action="store_true", help="only the time")
    arguments.add_argument("--alone", action="store_true", help="without the peers")
    options = arguments.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)
    path = options.data / "outputs" / "outputs.jsonl"
    if not path.exists():
        sys.exit(f"{path} is not there: --data names the folder with outputs/ and cases/")
    rows = [json.loads(line) | {"line": n} for n, line in enumerate(path.read_text("utf-8").splitlines(), 1)]
    if options.time:
        print_time(console, rows)
        return
    readers = {"medbench": medbench_choice} if options.alone else parsers(console)
    half_of = halves(rows)
    for half in ("development", "heldout"):
        if options.half in (half, "both"):
            missed = print_half(console, half, [r for r in rows if half_of[r["source"], r["model"]] == half], readers)
            for row in missed if options.wrong else ():
                text = row["text"] if len(row["text"]) < 700 else row["text"][:450] + " [...] " + row["text"][-240:]
                console.print(
                    f"line {row['line']} {row['model']}: read {row['said'] or 'none'}, stated {row['stated']} "
                    f"({row['stated_by']})\n    {text!r}",
                    markup=False,
                )
    print_cases(console, options.data / "cases" / "reading.jsonl", readers)


if __name__ == "__main__":
    main()
