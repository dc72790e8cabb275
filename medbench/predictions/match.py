"""Predictions joined to the items they answer, one to one, with whatever does not fit named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medbench.answers import extract_choice
from medbench.errors import BadRow, MedbenchError
from medbench.predictions.prediction import Prediction
from medbench.sources.items import LETTERS, Item
from medbench.sources.records import BadRows

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample


def match(
    predictions: Sequence[Prediction], samples: Sequence[Sample], file: str, bad_rows: BadRows
) -> list[tuple[Prediction, Sample]]:
    """Every prediction with the item it answers: by id, else by the question in its prompt, else by order.

    Raises:
        MedbenchError: without ids and prompts, the counts differ.
        BadRow: a prediction that answers no item or one that is already answered, or an item without prediction,
            unless `bad_rows` skips them.
    """
    if all(prediction.item_id is None and prediction.prompt is None for prediction in predictions):
        if len(predictions) != len(samples):
            raise MedbenchError(
                f"{file} holds {len(predictions)} predictions for {len(samples)} items, and neither ids nor prompts "
                "that say which answers which."
            )
        return list(zip(predictions, samples, strict=True))
    by_id = {str(sample.id): sample for sample in samples}
    questions = {
        str(sample.id): _squeezed(Item.from_metadata((sample.metadata or {})["item"]).question) for sample in samples
    }
    in_order = dict(zip((p.record.row for p in predictions), questions, strict=False))
    taken: dict[str, Prediction] = {}
    for prediction in predictions:
        try:
            key = _answered(prediction, by_id, questions, in_order.get(prediction.record.row))
            if key in taken:
                raise prediction.record.error(None, f"answers the same item as {taken[key].record.row}")
            taken[key] = prediction
        except BadRow as problem:
            bad_rows.add(problem)
    without = [sample for key, sample in by_id.items() if key not in taken]
    if without and bad_rows.policy == "error":
        item = Item.from_metadata((without[0].metadata or {})["item"])
        raise MedbenchError(
            f"{file} answers {len(taken)} of {len(samples)} items; the first without a prediction is {without[0].id} "
            f"({item.source}). Name the items that were really asked, or list the others in the log: --on-bad-row skip."
        )
    for sample in without:
        bad_rows.add(BadRow(file, "no row", None, f"no prediction for item {sample.id}"))
    return [(prediction, by_id[key]) for key, prediction in taken.items()]


def _answered(prediction: Prediction, by_id: dict[str, Sample], questions: dict[str, str], guess: str | None) -> str:
    if prediction.item_id is not None:
        if prediction.item_id in by_id:
            return prediction.item_id
        raise prediction.record.error("id", f"no item has the id {prediction.item_id!r}")
    if prediction.prompt is None:
        raise prediction.record.error("prompt", "missing; other rows have one")
    prompt = _squeezed(prediction.prompt)
    if guess is not None and questions[guess] and questions[guess] in prompt:
        return guess
    held = [key for key, question in questions.items() if question and question in prompt]
    if not held:
        raise prediction.record.error("prompt", "holds no item's question")
    # few-shot prompts hold other items' questions before their own, and one question may contain another
    return max(held, key=lambda key: (prompt.rfind(questions[key]) + len(questions[key]), len(questions[key])))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def agreeing(pairs: Sequence[tuple[Prediction, Sample]], bad_rows: BadRows) -> list[tuple[Prediction, Sample]]:
    """The pairs whose label, where the file has one, does not contradict the item's key.

    A contradiction means other items, or another order of the options than the benchmark's.
    """
    kept = []
    for prediction, sample in pairs:
        item = Item.from_metadata((sample.metadata or {})["item"])
        label = prediction.label
        if item.reference and label and not item.options and not item.answer:
            theirs = _squeezed(label)
            # LLaMA-Factory cuts long labels at its cutoff_len
            if not any(_squeezed(ours).startswith(theirs[:-1]) for ours in item.references):
                bad_rows.add(prediction.record.error("label", "is not the reference text of the item that it answers"))
                continue
        if item.options and label:
            said = extract_choice(label, item.letters, choices=item.options, multiple=True)
            if said.status == "answer" and said.letters != item.answer:
                problem = f"says {''.join(said.letters)}, but the item's key is {''.join(item.answer)}"
                bad_rows.add(prediction.record.error("label", f"{problem}; were the options in another order"))
                continue
        kept.append((prediction, sample))
    return kept


def as_labelled(pairs: Sequence[tuple[Prediction, Sample]]) -> list[tuple[Prediction, Sample]]:
    """The pairs with each free-text reference as the file has it, where the two differ in outer white space alone.

    LLaMA-Factory's labels end in its chat template's line end, which its BLEU over characters counts.
    """
    labels = {label.strip(): label for prediction, _ in pairs if (label := prediction.label)}
    kept = []
    for prediction, sample in pairs:
        metadata = dict(sample.metadata or {})
        item = Item.from_metadata(metadata["item"])
        if not item.options and prediction.label and prediction.label.strip() == item.reference:
            metadata["item"] = dataclasses.replace(item, reference=prediction.label).to_metadata()
            floor = metadata.get("floor_reference")
            metadata |= {"floor_reference": labels.get(floor, floor)} if floor is not None else {}
            sample = sample.model_copy(update={"metadata": metadata})
        kept.append((prediction, sample))
    return kept


def as_shown(pairs: Sequence[tuple[Prediction, Sample]], bad_rows: BadRows) -> list[tuple[Prediction, Sample]]:
    """The pairs with each item's options in the order in which the model saw them, where the file says so.

    The same item under other letters keeps its id, which doesn't depend on the order.
    """
    kept = []
    for prediction, sample in pairs:
        item = Item.from_metadata((sample.metadata or {})["item"])
        places = [_squeezed(option) for option in item.options]
        asked = [_squeezed(option) for option in prediction.shown]
        if not asked or asked == places:
            kept.append((prediction, sample))
        elif not places:
            problem = f"the model chose a letter among {list(prediction.shown)!r:.80}, and the item has no options"
            advice = "; --task custom judges such rows as multiple choice" if prediction.item_row else ""
            bad_rows.add(prediction.record.error(None, problem + advice))
        elif sorted(asked) != sorted(places) or len(set(places)) < len(places):
            problem = f"was asked with {list(prediction.shown)!r:.160}, but the item's options are"
            bad_rows.add(prediction.record.error(None, f"{problem} {list(item.options)!r:.160}"))
        else:
            order = [places.index(option) for option in asked]
            kept.append((prediction, _reordered(sample, item, order)))
    return kept


def _reordered(sample: Sample, item: Item, order: Sequence[int]) -> Sample:
    """The sample with option `order[i]` at place i, and its key under the new letters."""
    answer = tuple(sorted(LETTERS[order.index(LETTERS.index(letter))] for letter in item.answer))
    moved = dataclasses.replace(item, options=tuple(item.options[place] for place in order), answer=answer)
    metadata = {**(sample.metadata or {}), "item": moved.to_metadata()}
    return sample.model_copy(update={"metadata": metadata, "target": "".join(answer)})
