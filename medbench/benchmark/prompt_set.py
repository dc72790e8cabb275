"""Prompts as data: sets of named wordings for multiple choice, which `-T prompt=SET#NAME` puts in the house's place.

    prompts:
      - name: exam
        mode: generate          # or logprob, where the first token is read
        form: line_last         # the form that the wording asks for (`medbench.reading.choice.FORMS`), if any
        fewshot: 3              # worked examples before each item, if the wording is to have its own number
        answers: one            # or several: what it says of how many options may be right
        en: "Question: {question}\\n{options}\\nEnd with one line 'Answer: X'."
        zh: "..."

The shipped set is called ``choice``. A set may say which items it is for (`items`): `medbench tune-prompt` asks the
tuning items alone with one, and writes another, tuned one that leaves those items out wherever it is used. So no item
is tested with a prompt that was picked on it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from medbench.benchmark.prompts import option_lines
from medbench.errors import MedbenchError, unknown
from medbench.files.yaml_files import read_yaml
from medbench.reading.choice import FORMS
from medbench.sources.items import Item

SHIPPED = ("choice",)
MODES = ("generate", "logprob")
LANGUAGES = ("en", "zh")
PLACEHOLDERS = ("question", "options", "context")
_KEYS = ("name", "mode", "form", "fewshot", "answers", "of", *LANGUAGES)
_PLACEHOLDER = re.compile(r"\{([^{}\n]*)\}")


@dataclass(frozen=True)
class Template:
    """One wording.

    Attributes:
        name: what it is called in its set; in a tuned set, the candidate that it is for.
        mode: ``generate`` or ``logprob``.
        texts: language -> text with ``{question}`` and ``{options}``, and ``{context}`` if wanted.
        form: the form that it asks for, or None.
        fewshot: worked examples that it brings, or None for the user's number.
        several: it allows several right options.
        of: in a tuned set, where the wording comes from (``choice#exam``).
    """

    name: str
    mode: str
    texts: Mapping[str, str]
    form: str | None = None
    fewshot: int | None = None
    several: bool = False
    of: str = ""

    def render(self, item: Item, language: str) -> str:
        """The prompt of one item.

        Raises:
            MedbenchError: the wording has no text in this language.
        """
        if language not in self.texts:
            raise MedbenchError(
                f"prompt {self.name} has no text in {language!r}, which the item's language asks for; it has "
                f"{', '.join(self.texts)}: add one, or choose it with -T prompt_language={next(iter(self.texts))}."
            )
        values = {"question": item.question, "options": option_lines(item), "context": item.context}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.texts[language])

    @property
    def sha256(self) -> str:
        """Of all that decides what a model is shown."""
        told = [self.mode, self.form or "", str(self.fewshot), str(self.several)]
        told += [f"{key}:{text}" for key, text in self.texts.items()]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()


@dataclass(frozen=True)
class PromptSet:
    """A set of wordings, and which items it is for.

    Attributes:
        source: the file, or the shipped set's name.
        templates: by name, in order.
        only: ids of the items that it asks; None for all.
        without: ids of the items that it leaves out: those it was tuned on.
        tuning: how it was tuned, as `medbench tune-prompt` wrote it; empty for any other set.
    """

    source: str
    templates: Mapping[str, Template]
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    tuning: Mapping[str, Any] = field(default_factory=dict)

    def template(self, name: str) -> Template:
        """One wording by its name.

        Raises:
            MedbenchError: there is none, with the nearest names.
        """
        if name not in self.templates:
            raise unknown(f"prompt of {self.source}", name, self.templates)
        return self.templates[name]


def split_reference(reference: str) -> tuple[str, str]:
    """``FILE#NAME`` as file and name; the name is empty where none is given."""
    source, _, name = str(reference).partition("#")
    return source, name


def read_template(reference: str, mode: str) -> tuple[PromptSet, Template]:
    """The wording that ``SET#NAME`` stands for, and its set.

    Args:
        reference: a shipped set's name or a YAML file, ``#``, and the wording's name.
        mode: how the task asks; the wording must be made for it.

    Raises:
        MedbenchError: no such set or wording, a set that is not as described above, a wording for the other mode.
    """
    source, name = split_reference(reference)
    found = read_prompt_set(source)
    if not name:
        raise MedbenchError(f"prompt={reference}: say which, {source}#NAME; it has {', '.join(found.templates)}.")
    template = found.template(name)
    if template.mode != mode:
        fitting = [other.name for other in found.templates.values() if other.mode == mode]
        raise MedbenchError(
            f"prompt={reference} is made for mode={template.mode}, and this run has mode={mode}; for that "
            f"{source} has {', '.join(fitting) or 'none'}."
        )
    return found, template


def read_prompt_set(source: str) -> PromptSet:
    """A set from a YAML file, or a shipped one by name.

    Raises:
        MedbenchError: it is missing, or not as this module describes it; says where and what was expected.
    """
    path = Path(str(files("medbench.benchmark.prompt_sets") / f"{source}.yaml")) if source in SHIPPED else Path(source)
    if not path.is_file():
        raise MedbenchError(f"no prompt set {source}: name a YAML file, or a shipped set ({', '.join(SHIPPED)}).")
    return _read(source, str(path), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _read(source: str, path: str, written: int) -> PromptSet:
    document = read_yaml(path, "prompt set")
    if not isinstance(document.get("prompts"), list) or not document["prompts"]:
        raise MedbenchError(f"{source}: expected a list 'prompts' of wordings, each with name, mode and a text.")
    for key in document:
        if key not in ("prompts", "items", "tuning", "about"):
            raise MedbenchError(f"{source}: {unknown('key of a prompt set', str(key), ('prompts', 'items', 'about'))}")
    templates: dict[str, Template] = {}
    for number, entry in enumerate(document["prompts"], 1):
        template = _template(f"{source}, prompt {number}", entry)
        if template.name in templates:
            raise MedbenchError(f"{source}: two prompts are called {template.name!r}.")
        templates[template.name] = template
    items, tuning = document.get("items") or {}, document.get("tuning") or {}
    lists = isinstance(items, dict) and all(isinstance(items.get(key) or [], list) for key in ("only", "without"))
    if not lists or not isinstance(tuning, dict):
        raise MedbenchError(
            f"{source}: expected items: {{only: [ID, ...]}} or {{without: [ID, ...]}}, and tuning: {{...}}."
        )
    return PromptSet(
        source,
        templates,
        only=frozenset(map(str, items["only"] or ())) if "only" in items else None,
        without=frozenset(map(str, items.get("without") or ())),
        tuning=tuning,
    )


def _template(where: str, entry: object) -> Template:
    if not isinstance(entry, dict):
        raise MedbenchError(
            f"{where}: expected name, mode and a text in {' or '.join(LANGUAGES)}, found {entry!r:.60}."
        )
    for key in entry:
        if key not in _KEYS:
            raise MedbenchError(f"{where}: {unknown('key of a prompt', str(key), _KEYS)}")
    name, mode, form, fewshot = (entry.get(key) for key in ("name", "mode", "form", "fewshot"))
    if not isinstance(name, str) or not name.strip() or "#" in name:
        raise MedbenchError(f"{where}: name is {name!r}; expected a text without '#'.")
    where = f"{where} ({name})"
    if mode not in MODES:
        raise MedbenchError(f"{where}: mode is {mode!r}; expected {' or '.join(MODES)}.")
    if form is not None and form not in FORMS:
        raise MedbenchError(f"{where}: {unknown('form', str(form), FORMS)}")
    if fewshot is not None and (isinstance(fewshot, bool) or not isinstance(fewshot, int) or fewshot < 0):
        raise MedbenchError(f"{where}: fewshot is {fewshot!r}; expected a number of examples, 0 or more.")
    if entry.get("answers", "one") not in ("one", "several"):
        raise MedbenchError(f"{where}: answers is {entry['answers']!r}; expected one or several.")
    texts = {language: entry[language] for language in LANGUAGES if language in entry}
    if not texts:
        raise MedbenchError(f"{where}: no text; expected one under {' or '.join(LANGUAGES)}.")
    for language, text in texts.items():
        _check_text(f"{where}, {language}", text)
    several = entry.get("answers") == "several"
    return Template(name, mode, texts, form, fewshot, several, str(entry.get("of") or ""))


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str):
        raise MedbenchError(f"{where}: expected a text, found {type(text).__name__}.")
    found = _PLACEHOLDER.findall(text)
    for name in found:
        if name not in PLACEHOLDERS:
            raise MedbenchError(f"{where}: {unknown('placeholder', name, PLACEHOLDERS)}")
    for name in ("question", "options"):
        if found.count(name) != 1:
            raise MedbenchError(f"{where}: {{{name}}} stands {found.count(name)} times in it; expected once.")


def to_entry(template: Template, **changes: object) -> dict[str, Any]:
    """A wording as it is written in a set, `changes` applied."""
    entry: dict[str, Any] = {"name": template.name, "mode": template.mode}
    entry |= {key: value for key in ("form", "fewshot", "of") if (value := getattr(template, key)) not in (None, "")}
    if template.several:
        entry["answers"] = "several"
    return entry | dict(template.texts) | changes


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as they are read."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _block)


def write_set(document: dict[str, Any]) -> str:
    """A prompt set as YAML text."""
    return yaml.dump(document, Dumper=_Blocks, allow_unicode=True, sort_keys=False, width=10_000)


def kept_items(found: PromptSet, items: Sequence[Item]) -> tuple[list[Item], str]:
    """The items that a set is for, and why the others are left out.

    Raises:
        MedbenchError: none is left, or the set asks for an item that is not there.
    """
    if found.only is not None:
        kept = [item for item in items if item.id in found.only]
        if len(kept) < len(found.only):
            raise MedbenchError(
                f"{found.source} asks {len(found.only)} items by their ids, and {len(found.only) - len(kept)} of them "
                "are not in this source: tune on the data that it was written for."
            )
        return kept, "not among the items that the prompts are tuned on"
    kept = [item for item in items if item.id not in found.without]
    if not kept:
        raise MedbenchError(f"{found.source}: its prompts were tuned on all {len(items)} items; none is left to test.")
    return kept, f"the prompts of {Path(found.source).name} were tuned on it"
