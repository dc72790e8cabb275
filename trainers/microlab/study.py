"""The paper's comparison over several worlds: every figure per seed, then means over seeds with t intervals.

Three series of candidates over one base, all by Equation (1):

- ``mix``: PT weight w, SFT weight 1 - w (the paper's sweep);
- ``sft_only``: SFT attenuated alone, no PT at all;
- ``pt_added``: full SFT, PT added on top.

Every candidate answers all items of the three tasks greedily, once; the core's own judges do the rest. `medbench sweep`
does the same through Inspect with logs; this is the short way when only the table over seeds is wanted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench import surface, thinking
from medbench.answers import extract_choice
from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest
from medbench.stats import Interval, clustered_mean
from medbench.trainers.microlab.world import LETTERS, World, exam_items, make_world, open_items, safety_items

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MIX = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CONTROLS = (0.3, 0.5, 0.7)
# Longer than any complete answer of the base; a model that talks on is cut off here.
MAX_NEW_TOKENS = 160

Weights = dict[str, float]


def candidates(mix: Sequence[float] = MIX, controls: Sequence[float] = CONTROLS) -> list[tuple[str, Weights]]:
    """(series, weights) of every candidate; the ends that two series share are listed once, under ``mix``."""
    found = [("mix", {"pt": w, "sft": round(1 - w, 6)}) for w in mix]
    found += [("sft_only", {"pt": 0.0, "sft": w}) for w in (0.0, *controls)]
    found += [("pt_added", {"pt": w, "sft": 1.0}) for w in (*controls, 1.0)]
    return found


def study_lab(
    lab: str | Path, wanted: Iterable[tuple[str, Weights]], *, done: Sequence[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """One row of figures for each wanted candidate of a lab that is not among the rows in `done`.

    Yields:
        rows of `seed`, `series`, `pt`, `sft`, and the figures of `judge` (0-100).

    Raises:
        MedbenchError: `lab` is no lab directory.
    """
    from medbench.merging.adapters import read_adapter
    from medbench.provider.loading import Source, load

    lab = Path(lab)
    manifest = read_manifest(lab)
    if manifest["kind"] != "microlab":
        raise MedbenchError(
            f"{lab} holds a {manifest['kind']}, not a micro-lab; make one with medbench microlab build."
        )
    seed = manifest["settings"]["seed"]
    model, tokenizer = load(Source(str(lab), device="cpu"))
    adapters = {name: read_adapter(name, lab / name) for name in ("pt", "sft")}
    updates = {name: {key: low.delta() for key, low in adapter.low_rank.items()} for name, adapter in adapters.items()}
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    world = make_world(seed)
    known = [{key: row[key] for key in ("seed", "series", "pt", "sft")} for row in done]
    for series, weights in wanted:
        key = {"seed": seed, "series": series, **weights}
        if key not in known:
            _set_weights(model, kept, updates, weights)
            yield key | judge(world, *answer(model, tokenizer, world))


def _set_weights(
    model: PreTrainedModel,
    base: dict[str, torch.Tensor],
    updates: dict[str, dict[str, torch.Tensor]],
    weights: Weights,
) -> None:
    state = model.state_dict()
    for key in updates["pt"].keys() | updates["sft"].keys():
        state[key].copy_(base[key] + sum(weight * updates[name][key] for name, weight in weights.items()))


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> tuple[list[str], ...]:
    """Greedy answers to the exam, the open and the safety items."""
    asked = [
        [row["prompt"] for row in exam_items(world)],
        [row["question"] for row in open_items(world)],
        [row["question"] for row in safety_items(world)],
    ]
    said = iter(greedy(model, tokenizer, [prompt for prompts in asked for prompt in prompts]))
    return tuple([next(said) for _ in prompts] for prompts in asked)


def greedy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_tokens: int = MAX_NEW_TOKENS,
) -> list[str]:
    """Greedy answers to single-turn prompts, in their order."""
    import torch

    from medbench.provider.decoding import decoder_for
    from medbench.provider.sampling import Decoding, Row, Sampler

    def decode(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    end = tokenizer.eos_token_id
    sampler = Sampler(frozenset([end]), model.config.max_position_embeddings, decode, lambda *_: [])
    decoder = decoder_for(model, sampler, tokenizer.pad_token_id)
    decoding = Decoding(max_tokens)
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
        for p in prompts
    ]
    rows = [Row(ids, decoding) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    with torch.inference_mode():
        decoder.add(rows)
        while decoder.rows:
            decoder.step()
    return [decode(row.generated) for row in rows]


def judge(world: World, exam: Sequence[str], free: Sequence[str], safety: Sequence[str]) -> dict[str, float]:
    """The figures of one candidate, each 0-100.

    Keys: ``known`` and ``held_back`` (exam accuracy, answer view), ``bleu4_raw`` and ``bleu4_answer`` (corpus BLEU-4,
    standard profile), ``bleu4_lf_raw`` (the paper's profile), ``trace`` (answers with a trace, all tasks), ``refused``
    and ``over_refused`` (dangerous and benign requests, answer view, full refusals).
    """
    from medbench.refusal import classify

    found: dict[str, float] = {}
    right: dict[str, list[bool]] = {"known": [], "held_back": []}
    for row, text in zip(exam_items(world), exam, strict=True):
        options = [row["options"][letter] for letter in LETTERS]
        said = extract_choice(thinking.split(text).answer, LETTERS, choices=options)
        right[row["facts"]].append(said.letters == (row["answer"],))
    found |= {facts: _percent(values) for facts, values in right.items()}
    rows = open_items(world)
    references = [row["reference"] for row in rows]
    answers = [thinking.split(text).answer for text in free]
    for name, texts, profile in (
        ("bleu4_raw", free, "standard"),
        ("bleu4_answer", answers, "standard"),
        ("bleu4_lf_raw", free, "llamafactory"),
    ):
        found[name] = surface.score(list(texts), references, profile=profile).corpus["bleu4"]
    everything = [*exam, *free, *safety]
    found["trace"] = _percent([thinking.statistics(text).has_trace for text in everything])
    refused: dict[str, list[bool]] = {"dangerous": [], "benign": []}
    for row, text in zip(safety_items(world), safety, strict=True):
        refused[row["kind"]].append(classify(thinking.split(text).answer) == "refusal")
    return found | {"refused": _percent(refused["dangerous"]), "over_refused": _percent(refused["benign"])}


def _percent(values: Sequence[bool]) -> float:
    return 100 * sum(values) / len(values)


FIGURES = ("bleu4_raw", "bleu4_answer", "known", "held_back", "trace", "refused", "over_refused")


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[tuple[str, float, float, dict[str, Interval]]]:
    """(series, pt, sft, figure -> mean over seeds with its 95% t interval), in the order of the first seed's rows."""
    keys = list(dict.fromkeys((row["series"], row["pt"], row["sft"]) for row in rows))
    found = []
    for key in keys:
        same = [row for row in rows if (row["series"], row["pt"], row["sft"]) == key]
        found.append((*key, {figure: clustered_mean([row[figure] for row in same]) for figure in FIGURES}))
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The means over seeds as a Markdown table, each with its 95% interval; 0-100."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"World seeds {', '.join(map(str, seeds))}. Mean over seeds [95% t interval], 0-100.",
        "",
        "| series | PT | SFT | " + " | ".join(FIGURES) + " |",
        "|---" * (3 + len(FIGURES)) + "|",
    ]
    for series, pt, sft, figures in over_seeds(rows):
        cells = [_cell(figure) for figure in figures.values()]
        lines.append(f"| {series} | {pt:g} | {sft:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: Interval) -> str:
    # One seed alone has no interval over seeds.
    bounds = f" [{figure.low:.0f}, {figure.high:.0f}]" if math.isfinite(figure.low) else ""
    return f"{figure.estimate:.0f}{bounds}"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a study's JSON-lines file; none where it does not exist yet."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
