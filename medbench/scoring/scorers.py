"""Inspect scorers: thin wrappers of the pure judges in the core.

Each judges the stored text of one generation under several views of its reasoning trace (`medbench.thinking.views`)
and gives a dict-valued score with keys ``<metric>/<view>``. A value that does not exist for a sample is NaN, which
Inspect counts as unscored. All are registered, so `inspect score` can judge a log again without a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState

from medbench import stats, thinking
from medbench.answers import Extraction, extract_choice, extract_decision
from medbench.reading.choice import Form
from medbench.scoring.transcript import LIKELIHOODS, raw_text
from medbench.sources.items import LETTERS, Item

if TYPE_CHECKING:
    from medbench import surface

# The trace alone is never compared with a reference answer.
SURFACE_VIEWS = ("raw", "untagged", "lenient", "answer")
# `surface.METRICS`, written out: every Inspect process imports this module, and the surface metrics are slow to import.
SURFACE_METRICS = ("bleu4", "rouge1", "rouge2", "rougeL")
_NAN = float("nan")
# Labels that no output holds, in place of letters that no prompt showed.
_UNSEEN = "".join(chr(0xE000 + number) for number in range(len(LETTERS)))


def judged_item(state: TaskState) -> Item:
    """The item behind a sample, from its metadata."""
    return Item.from_metadata(state.metadata["item"])


def judged_text(state: TaskState) -> tuple[str, bool]:
    """The generation as it was made, and whether the prompt already held the opening think tag."""
    output = (state.output.metadata or {}).get("prefilled_think")
    prefilled = state.metadata.get("prefilled", False) if output is None else output
    return raw_text(state.output), bool(prefilled)


def judged_views(state: TaskState) -> dict[str, str]:
    """The views of a sample's generation."""
    text, prefilled = judged_text(state)
    return thinking.views(text, prefilled=prefilled)


def extraction_score(
    extractions: Mapping[str, Extraction],
    gold: tuple[str, ...],
    by_type: bool,
    right: Callable[[tuple[str, ...]], bool] | None = None,
) -> Score:
    """The score of what an output states under each view, against the key.

    Args:
        extractions: by view.
        gold: the key.
        by_type: also ``accuracy_single/answer`` and ``accuracy_multiple/answer``.
        right: whether what is stated counts as the key; None for being the key itself.
    """
    value: dict[str, float] = {}
    for view, extraction in extractions.items():
        answered = extraction.status == "answer"
        correct = float(answered and (right(extraction.letters) if right else extraction.letters == tuple(gold)))
        value[f"accuracy/{view}"] = correct
        value[f"answered/{view}"] = float(answered)
    if by_type:
        correct = value["accuracy/answer"]
        value["accuracy_single/answer"] = correct if len(gold) == 1 else _NAN
        value["accuracy_multiple/answer"] = correct if len(gold) > 1 else _NAN
    head = extractions["answer"]
    joint = "" if all(len(letter) == 1 for letter in (*head.letters, *gold)) else ", "
    said = joint.join(head.letters)
    explanation = f"answer view: {said or 'no answer'} (key {joint.join(gold)})"
    if head.rule:
        explanation = f"{explanation}, read by rule {head.rule} ({head.slot})"
    return Score(
        value=value,
        answer=said or None,
        explanation=explanation if head.status == "answer" else f"{explanation}: {head.status}, {head.reason}",
        reason=None if head.status == "answer" else _inspect_reason(head),
        metadata={
            "gold": list(gold),
            "extraction": {view: _extraction_record(extraction) for view, extraction in extractions.items()},
        },
    )


def _extraction_record(extraction: Extraction) -> dict[str, Any]:
    return {
        "status": extraction.status,
        "letters": list(extraction.letters),
        "span": list(extraction.span) if extraction.span else None,
        "reason": extraction.reason,
        "rule": extraction.rule,
        "slot": extraction.slot,
    }


def _inspect_reason(extraction: Extraction) -> str:
    """Inspect's own word where there is one, else ours."""
    known = {"no_response": "no_response", "refused": "refusal"}
    return known.get(extraction.reason, "invalid_response_format")


@metric(name="ci")  # two names of this length fit Inspect's table on the terminal
def interval() -> Metric:
    """95% interval of a rate, as `low` and `high`: the report's (`stats.rate`), so that both print the same numbers.

    Exact (Clopper-Pearson) at the effective size: items of one group or context count together, which the `stderr`
    beside it does not do. Over epochs Inspect hands on each item's mean, so items count, never their repetitions.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        known = [score for score in scores if math.isfinite(score.score.as_float())]
        values = [score.score.as_float() for score in known]
        found = stats.rate(values, [_context(score, number) for number, score in enumerate(known)])
        return {"low": found.low, "high": found.high}

    return compute


def _context(score: SampleScore, number: int) -> str:
    item = (score.sample_metadata or {}).get("item") or {}
    shared = item.get("group") or item.get("context")
    return f"context {shared}" if shared else f"item {number}"


@metric
def other_views(but: Sequence[str] = ()) -> Metric:
    """Means under the views whose values are not those of the answer view: what is equal everywhere is shown once.

    Args:
        but: metrics that are left to another function.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        values = [score.score.as_dict() for score in scores]
        found: dict[str, float] = {}
        for key in values[0] if values else ():
            name, _, view = key.partition("/")
            if view in ("", "answer") or name in but or name.endswith("_floor"):
                continue
            if _differs(values, name, view):
                known = [x for x in (_float(value[key]) for value in values) if not math.isnan(x)]
                found[key] = sum(known) / len(known) if known else _NAN
        return found

    return compute


def _differs(values: list[dict[str, Any]], name: str, view: str) -> bool:
    """Whether any sample has another value under a view than under the answer view; an empty trace tells nothing."""
    key, head = f"{name}/{view}", f"{name}/answer"
    if head not in values[0] or key not in values[0]:
        return False
    mine = np.array([_float(value[key]) for value in values])
    if view == "trace" and not np.nan_to_num(mine).any():
        return False
    return not np.array_equal(mine, [_float(value[head]) for value in values], equal_nan=True)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else _NAN


@metric
def abstention_bounds() -> Metric:
    """Accuracy (0-1), then the two other ways: among answered items, and with every abstention right.

    Under the answer view, and under those views whose accuracy differs from it.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found: dict[str, float] = {}
        values = [score.score.as_dict() for score in scores]
        for key in values[0] if values else ():
            if key.startswith("accuracy/"):
                view = key.removeprefix("accuracy/")
                if view != "answer" and not (_differs(values, "accuracy", view) or _differs(values, "answered", view)):
                    continue
                right = [float(value[key] or 0) for value in values]
                # Inspect prints this block first, so it begins with the headline.
                if view == "answer":
                    found = {key: sum(right) / len(right)} | found
                answered = [float(value[f"answered/{view}"] or 0) for value in values]
                found[f"accuracy_answered/{view}"] = sum(right) / sum(answered) if any(answered) else _NAN
                found[f"accuracy_best/{view}"] = (sum(right) + len(answered) - sum(answered)) / len(answered)
        return found

    return compute


@metric
def macro_f1() -> Metric:
    """Macro-averaged F1 over the gold classes, under each view; an abstention counts for no class (0-1).

    The convention of PubMedQA's own evaluation: the unweighted mean of the classes' F1.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found: dict[str, float] = {}
        rows = [score.score.metadata for score in scores if score.score.metadata]
        for view in thinking.VIEWS:
            gold = ["".join(row["gold"]) for row in rows]
            said = ["".join(row["extraction"][view]["letters"]) for row in rows]
            classes = sorted(set(gold))
            if classes:
                found[f"macro_f1/{view}"] = sum(_f1(gold, said, name) for name in classes) / len(classes)
        return found

    return compute


def _f1(gold: list[str], said: list[str], name: str) -> float:
    hits = sum(g == name and s == name for g, s in zip(gold, said, strict=True))
    total = gold.count(name) + said.count(name)
    return 2 * hits / total if total else 0.0


# Keys named in full come first: they are the headlines, and Inspect looks for them before any sample is scored.
ACCURACY = {
    "accuracy/answer": [mean(), stderr(), interval()],
    "answered/answer": [mean()],
    "accuracy_*/answer": [mean(), stderr(), interval()],
}


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views()])
def option_accuracy(
    multiple: bool = False, by_type: bool = False, form: Form | None = None, letters: bool = True
) -> Scorer:
    """Whether the stated option letters equal the key, under every view.

    Keys: ``accuracy/<view>`` (an abstention counts as wrong: the headline) and ``answered/<view>``. From both, the log
    also has accuracy among answered items and in the best case (`abstention_bounds`).

    Args:
        multiple: any number of options may be stated; sets are compared whole.
        by_type: also ``accuracy_single/answer`` and ``accuracy_multiple/answer``, for items with one and several keys.
        form: the form that the task's prompt asked for (`medbench.reading.choice.FORMS`), or None.
        letters: the prompt showed the options' letters; without them only an option's text is an answer.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        truncated = state.output.stop_reason in ("max_tokens", "model_length")
        names = item.letters if letters else _UNSEEN[: len(item.options)]

        def read(text: str) -> Extraction:
            found = extract_choice(
                text,
                names,
                choices=item.options,
                multiple=multiple,
                question=item.question,
                form=form,
                truncated=truncated,
            )
            return replace(found, letters=tuple(item.letters[names.index(one)] for one in found.letters))

        judge = once_per_text(read)
        return extraction_score({view: judge(text) for view, text in ordered_views(state)}, item.answer, by_type)

    return score


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views(), macro_f1()])
def decision_accuracy(form: Form | None = None) -> Scorer:
    """Whether the stated yes, no or maybe equals the key; keys as in `option_accuracy`, and macro-F1 over the log.

    Args:
        form: the form that the task's prompt asked for (`medbench.reading.choice.FORMS`), or None.
    """

    async def score(state: TaskState, target: Target) -> Score:
        judge = once_per_text(lambda text: extract_decision(text, form=form))
        item = judged_item(state)
        return extraction_score({view: judge(text) for view, text in ordered_views(state)}, item.answer, False)

    return score


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views()])
def named_accuracy(names: Mapping[str, Sequence[str]]) -> Scorer:
    """Whether a free-text answer names what its reference names, out of a closed list, and nothing else of it.

    For items whose reference settles which of a known set of entities is right (one drug of all drugs). Keys as in
    `option_accuracy`: ``accuracy/<view>`` is 1 where exactly the reference's names occur, ``answered/<view>`` where any
    name occurs. The rest of the wording plays no part.

    Args:
        names: language -> the names, as they are written in it.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        known = names[item.language]

        def judge(text: str) -> Extraction:
            found = named(text, known)
            if found:
                return Extraction("answer", found)
            return Extraction("abstain", reason="no_answer_found" if text.strip() else "no_response")

        judged = once_per_text(judge)
        return extraction_score(
            {view: judged(text) for view, text in ordered_views(state)}, named(item.reference, known), False
        )

    return score


def named(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that occur in a text, in the order of `names`: whole words where they are written in Latin letters."""
    return tuple(
        name for name in names if re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", text, re.IGNORECASE)
    )


def ordered_views(state: TaskState) -> list[tuple[str, str]]:
    """The views of a sample's generation, in the order in which they are shown."""
    views = judged_views(state)
    return [(view, views[view]) for view in thinking.VIEWS]


def once_per_text(judge: Any) -> Any:
    """Without a trace all views are the same text: judge it once."""
    seen: dict[str, Any] = {}

    def judged(text: str) -> Any:
        if text not in seen:
            seen[text] = judge(text)
        return seen[text]

    return judged


@scorer(metrics={"*": [mean(), stderr()]})
def trace_statistics() -> Scorer:
    """What the reasoning trace looks like.

    Keys: ``trace/raw`` (1 if there is one), ``trace_unterminated/raw`` (1 if it never closes), ``trace_share/raw``
    (characters of trace over all characters but the tags, 0-1).
    """

    async def score(state: TaskState, target: Target) -> Score:
        text, prefilled = judged_text(state)
        trace = thinking.statistics(text, prefilled=prefilled)
        return Score(
            value={
                "trace/raw": float(trace.has_trace),
                "trace_unterminated/raw": float(trace.unterminated),
                "trace_share/raw": trace.share,
            },
            answer=trace.status,
            metadata={"status": trace.status, "prefilled": prefilled},
        )

    return score


@metric
def corpus_overlap() -> Metric:
    """Corpus BLEU-4 (standard profile, 0-100) of each distinct view with its 95% bootstrap interval, and its floors.

    `bleu4` and `bleu4_floor` are computed from the sufficient statistics kept with each sample's score, so nothing is
    tokenized again; the floors of the other metrics are means over items.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        from medbench import surface

        found: dict[str, float] = {}
        rows = [score.score.metadata for score in scores if score.score.metadata]
        values = [score.score.as_dict() for score in scores]
        shown = ["answer", *[v for v in SURFACE_VIEWS if v != "answer" and values and _differs(values, "bleu4", v)]]
        for view in shown if rows else ():
            for name in ("bleu4", "bleu4_floor"):
                kept = [row["statistics"][name][view] for row in rows if row["statistics"].get(name)]
                if not kept:
                    continue
                statistics = np.array(kept, dtype=np.int64)
                found[f"{name}/{view}"] = float(stats.bleu_statistic(statistics.sum(axis=0)))
                if name == "bleu4":
                    resampled = surface.bootstrap_bleu(statistics, 1000, np.random.default_rng(0))
                    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
                    found |= {f"bleu4_lower/{view}": low, f"bleu4_upper/{view}": high}
        for key in values[0] if values else ():
            if "_floor/" in key and key not in found and key.partition("/")[2] in shown:
                known = [float(value[key] or 0) for value in values if not math.isnan(float(value[key] or 0))]
                found[key] = sum(known) / len(known) if known else _NAN
        return found

    return compute


_OVERLAP = {"bleu4/answer": [mean(), stderr()]} | {
    f"{name}{profile}/answer": [mean(), stderr()] for name in SURFACE_METRICS for profile in ("", "_llamafactory")
}


@scorer(metrics=[_OVERLAP, corpus_overlap(), other_views(but=("bleu4",))])
def surface_overlap(part: str = "whole") -> Scorer:
    """BLEU-4 and ROUGE against the item's reference text, in both profiles, each beside its floor (0-100).

    Keys: ``bleu4/<view>``, ``rouge1/…``, ``rouge2/…``, ``rougeL/…`` in the standard profile,
    ``bleu4_llamafactory/<view>`` and so on in the paper's, and ``bleu4_floor/<view>`` … for
    the same output against another item's reference.

    Args:
        part: ``whole`` compares all of a view; ``explanation`` only what follows its explanation heading, for tasks
            that ask for an answer and an explanation in one generation.
    """
    from medbench import surface

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        other = state.metadata.get("floor_reference")
        value: dict[str, float] = {}
        statistics: dict[str, dict[str, list[int]]] = {"bleu4": {}, "bleu4_floor": {}}

        reference = surface.tokenize(item.reference, item.language)
        unrelated = surface.tokenize(other, item.language) if other else None

        def judge(text: str) -> tuple[surface.ItemScore, surface.ItemScore | None]:
            words = surface.tokenize(explanation_part(text) if part == "explanation" else text, item.language)
            return surface.score_item(words, reference), surface.score_item(words, unrelated) if unrelated else None

        judged = once_per_text(judge)
        views = judged_views(state)
        for view in SURFACE_VIEWS:
            own, floor = judged(views[view])
            for name in SURFACE_METRICS:
                value[f"{name}/{view}"] = own.standard[name]
                value[f"{name}_llamafactory/{view}"] = own.llamafactory[name]
                value[f"{name}_floor/{view}"] = floor.standard[name] if floor else _NAN
                value[f"{name}_llamafactory_floor/{view}"] = floor.llamafactory[name] if floor else _NAN
            statistics["bleu4"][view] = list(own.bleu_stats)
            if floor:
                statistics["bleu4_floor"][view] = list(floor.bleu_stats)
        empty = not views["answer"].strip()
        return Score(
            value=value,
            answer=views["answer"],
            reason="no_response" if empty else None,
            explanation="the answer view is empty: there is only a trace, or nothing" if empty else None,
            metadata={
                "statistics": statistics,
                "signature": {profile: surface.signature(profile, [item.language]) for profile in surface.PROFILES},
                "part": part,
            },
        )

    return score


# "解析：", "**Explanation**:", "### Explanation" or "【解析】"; without a mark of a heading it is a word of the text.
_HEADING = re.compile(
    r"(?:explanation|解析)[*_ \t]*[:：][*_]*"
    r"|^[ \t]*(?:#{1,6}[ \t]*|[*_]{2})(?:explanation|解析)[*_ \t]*$"
    r"|【(?:explanation|解析)】[:：]?",
    re.IGNORECASE | re.MULTILINE,
)


def explanation_part(text: str) -> str:
    """What follows the first explanation heading; all of the text where there is none."""
    heading = _HEADING.search(text)
    return text[heading.end() :].lstrip() if heading else text


@scorer(metrics=[ACCURACY | {"entropy/*": [mean(), stderr()], "margin/*": [mean(), stderr()], "mass/*": [mean()]}])
def option_probability(words: Sequence[str] | None = None) -> Scorer:
    """The likeliest option as first token, and how sure the model is of it.

    Keys: ``accuracy/answer`` and its companions as in `option_accuracy`, ``entropy/answer`` (bits, over the options'
    probabilities scaled to 1), ``margin/answer`` (first minus second, 0-1), ``mass/answer`` (probability of all
    options together, 0-1).

    Where the log-likelihoods of whole option texts were imported, ``accuracy/answer`` is lm-eval's ``acc`` and
    ``accuracy_norm/answer`` its ``acc_norm`` (each divided by the option's length in characters); the probabilities are
    those of the texts, scaled to 1, and there is no ``mass``.

    Args:
        words: the options where they are words (``yes``, ``no``, ``maybe``); none for the item's option letters.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        candidates = _first_token_candidates(state)
        mass = word_masses(candidates, words) if words else letter_masses(candidates, item.letters)
        total = sum(mass.values())
        if total <= 0:
            extraction = Extraction("abstain", reason="no_option_among_top_logprobs")
        else:
            best = max(mass, key=lambda letter: mass[letter])
            extraction = Extraction("answer", (best,))
        scored = extraction_score({"answer": extraction}, item.answer, False)
        assert isinstance(scored.value, dict)
        probabilities = sorted((m / total for m in mass.values()), reverse=True) if total > 0 else []
        entropy = -sum(p * math.log2(p) for p in probabilities if p > 0) if probabilities else _NAN
        value = {
            **scored.value,
            "entropy/answer": entropy,
            "margin/answer": probabilities[0] - probabilities[1] if probabilities else _NAN,
            "mass/answer": total,
        }
        if texts := (state.output.metadata or {}).get(LIKELIHOODS):
            best = max(texts, key=lambda option: texts[option][1] / max(1, len(texts[option][0])))
            value |= {"accuracy_norm/answer": float((best,) == tuple(item.answer)), "mass/answer": _NAN}
        metadata = {**(scored.metadata or {}), "option_probability": mass}
        return scored.model_copy(update={"value": value, "metadata": metadata})

    return score


def _first_token_candidates(state: TaskState) -> list[tuple[str, float]]:
    """Candidates for the first token with their log-probabilities.

    Exact for every letter where the provider gives that (`medbench/`), the likeliest tokens otherwise.
    """
    exact = (state.output.metadata or {}).get("choice_logprobs")
    if exact:
        return [(str(token), float(logprob)) for token, logprob in exact.items()]
    logprobs = state.output.choices[0].logprobs
    if logprobs is None or not logprobs.content:
        return []
    return [(top.token, top.logprob) for top in logprobs.content[0].top_logprobs or []]


def letter_masses(candidates: list[tuple[str, float]], letters: str) -> dict[str, float]:
    """Probability of each option letter, summed over the tokens that spell it (``A``, `` A``, ``(A``, ``Ａ``).

    Args:
        candidates: tokens and their natural log-probabilities.
        letters: the letters in use.

    Returns:
        letter -> probability (0-1); 0.0 for a letter that none of the candidates spells.
    """
    mass = dict.fromkeys(letters, 0.0)
    for token, logprob in candidates:
        bare = token.strip(" \t\n\r\u2581\u0120([（「*").upper()
        if len(bare) == 1 and "Ａ" <= bare <= "Ｚ":
            bare = chr(ord(bare) - 0xFEE0)
        if bare in mass:
            mass[bare] += math.exp(logprob)
    return mass


def word_masses(candidates: list[tuple[str, float]], words: Sequence[str]) -> dict[str, float]:
    """Probability of each word, summed over the tokens that spell it (``yes``, `` Yes``, ``YES``).

    Args:
        candidates: tokens and their natural log-probabilities.
        words: in lower case.

    Returns:
        word -> probability (0-1); 0.0 for a word that none of the candidates spells.
    """
    mass = dict.fromkeys(words, 0.0)
    for token, logprob in candidates:
        bare = token.strip(" \t\n\r\u2581\u0120([（「*").lower()
        if bare in mass:
            mass[bare] += math.exp(logprob)
    return mass
