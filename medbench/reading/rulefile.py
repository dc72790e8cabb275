"""Rule files: word categories and named rules as data, each row with examples that are its tests.

    language: en                     # of every row that names none
    categories:
      ANSWER:
        words: [answer, key, solution]          # a word may be a phrase: "go with"
        examples:                               # {word} is filled with each word in turn
          - {text: "The {word} is B.", expect: B}
      HELP:
        words:
          - provide
          - {word: aid, examples: [{text: "I can't aid you.", expect: refusal}]}   # a word with an example of its own
    fragments:                       # pieces of patterns that several rules share
      STATED_AS: "[FUNCTION]{0,3} [BE]"
    rules:
      - name: answer_is
        kind: states
        sign: "+"
        pattern: "[ANSWER] [BE] {option}"
        examples:
          - {text: "The answer is B.", expect: B}

What a pattern means is the matter of the engine that uses the file; to this module it is text in which ``[NAME]`` (or
``[NAME|OTHER]``, upper case) names categories. An example is a text and the value that it must read as, with whatever
else the reader takes (``letters``, ``choices``, ``prompt``). `without_rule` and `without_word` make the sets of which
`medbench.reading.check` asks whether any example notices the loss.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from medbench.errors import MedbenchError, unknown
from medbench.files.yaml_files import Loader, load_yaml

K = TypeVar("K", dict[Any, Any], list[Any])
_CATEGORY = re.compile(r"\[\^?([A-Z][A-Z_]+(?:\|[A-Z][A-Z_]+)*)\]")
_RULE_FIELDS = {"name", "kind", "sign", "pattern", "patterns", "language", "examples", "note"}
_SECTIONS = ("language", "categories", "fragments", "rules")
_LINE = "__line__"


@dataclass(frozen=True)
class Example:
    """A text and what it must read as.

    Attributes:
        text: the text; in a category's example ``{word}`` stands for each of its words.
        expect: the right value, in the words of whoever reads it (``B``, ``abstain``, ``refusal``).
        options: what else the reader is given (``letters``, ``choices``, ``prompt``).
        line: its line in the file, from 1.
    """

    text: str
    expect: str
    options: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    def with_word(self, word: str) -> Example:
        """The example of one word of its category."""
        return replace(self, text=self.text.replace("{word}", word))


@dataclass(frozen=True)
class Word:
    """An entry of a category, with examples of its own where the category's do not show it at work."""

    word: str
    line: int
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Category:
    """Words that do the same thing in a sentence.

    Attributes:
        name: how patterns call it, in upper case.
        language: of the words.
        words: entry by entry, in the file's order.
        examples: with ``{word}`` for each word in turn; a word with examples of its own takes those instead.
        file: the rule file.
        line: where it begins.
    """

    name: str
    language: str
    words: tuple[Word, ...]
    examples: tuple[Example, ...]
    file: str
    line: int

    def examples_of(self, entry: Word) -> tuple[Example, ...]:
        """The examples that show one of the words at work."""
        return entry.examples or tuple(example.with_word(entry.word) for example in self.examples)


@dataclass(frozen=True)
class Rule:
    """A named rule.

    Attributes:
        name: unique among all files loaded together.
        kind: what a sentence that fits does, one of the engine's kinds.
        sign: ``+`` or ``-``.
        patterns: any of them fits; each is text with ``[CATEGORY]`` in it.
        language: of the pattern.
        examples: at least one.
        file: the rule file.
        line: where it begins.
        note: why it is there, where that is not plain.
    """

    name: str
    kind: str
    sign: str
    patterns: tuple[str, ...]
    language: str
    examples: tuple[Example, ...]
    file: str
    line: int
    note: str = ""

    @property
    def where(self) -> str:
        """File, line and name, for messages."""
        return f"{self.file}, line {self.line}, rule {self.name!r}"

    def categories(self) -> set[str]:
        """The categories that its patterns name."""
        return {name for text in self.patterns for names in _CATEGORY.findall(text) for name in names.split("|")}


@dataclass(frozen=True)
class RuleSet:
    """The categories and rules of one or more files, in their order."""

    categories: tuple[Category, ...]
    rules: tuple[Rule, ...]
    fragments: Mapping[str, str] = field(default_factory=dict)

    def inline(self, pattern: str) -> str:
        """`pattern` with the fragments in it written out; a fragment may name those before it."""

        def written(match: re.Match[str]) -> str:
            return f"(?:{self.inline(self.fragments[match[1]])})" if match[1] in self.fragments else match[0]

        return _CATEGORY.sub(written, pattern)

    def words(self, *names: str, language: str | None = None) -> list[str]:
        """All words of the named categories (of all languages, or one)."""
        wanted = set(names)
        return [
            entry.word
            for category in self.categories
            if category.name in wanted and language in (None, category.language)
            for entry in category.words
        ]

    def expand(self, pattern: str) -> str:
        """A regular expression over text: ``[NAME]`` becomes the category's words as alternatives, longest first."""

        def alternatives(match: re.Match[str]) -> str:
            words = sorted(set(self.words(*match[1].split("|"))), key=lambda word: (-len(word), word))
            return f"(?:{'|'.join(re.escape(word).replace(chr(92) + ' ', ' ') for word in words)})" if words else "(?!)"

        return _CATEGORY.sub(alternatives, self.inline(pattern))

    def without_rule(self, name: str) -> RuleSet:
        """The same without one rule."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.name != name))

    def without_word(self, category: Category, entry: Word) -> RuleSet:
        """The same without one entry of one category."""
        kept = replace(category, words=tuple(word for word in category.words if word is not entry))
        return replace(self, categories=tuple(kept if one is category else one for one in self.categories))

    def all_examples(self) -> Iterator[tuple[str, Example]]:
        """Every example with where it stands, the categories' filled word by word."""
        for rule in self.rules:
            for example in rule.examples:
                yield rule.where, example
        for category in self.categories:
            for entry in category.words:
                for example in category.examples_of(entry):
                    yield f"{category.file}, line {entry.line}, category {category.name}, word {entry.word!r}", example


def load(*paths: str | Path, kinds: Collection[str], extra_categories: Collection[str] = ()) -> RuleSet:
    """Read rule files that are used together.

    Args:
        paths: YAML files.
        kinds: the kinds of statement that the engine knows.
        extra_categories: names that patterns may use although no file lists their words (marks, say).

    Raises:
        MedbenchError: naming file and row, for an unknown field, kind, sign or category, a duplicate name or word, a
            row without examples, and YAML that does not parse.
    """
    categories: list[Category] = []
    rules: list[Rule] = []
    fragments: dict[str, str] = {}
    for path in paths:
        document = _document(Path(path))
        language = str(document.get("language", ""))
        name = Path(path).name
        for key, row in _section(name, document, "categories", dict).items():
            if key != _LINE:
                categories.append(_category(name, key, row, language))
        for key, text in _section(name, document, "fragments", dict).items():
            if key != _LINE:
                _fragment(f"{name}, fragment {key!r}", text, set(fragments), categories, extra_categories)
                fragments[key] = text
        rules += [_rule(name, row, language, kinds) for row in _section(name, document, "rules", list)]
    _check_names(categories, rules, {*extra_categories, *fragments})
    return RuleSet(tuple(categories), tuple(rules), fragments)


class _Loader(Loader):  # type: ignore[misc]
    """Keeps the line at which every mapping begins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep=True)
        found[_LINE] = node.start_mark.line + 1
        return found


# "yes", "no", "on" and "off" are words here, and 2 is a letter: every scalar is text.
_Loader.yaml_implicit_resolvers = {}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = load_yaml(path.read_bytes(), f"rule file {path}", _Loader)
    except OSError as error:
        raise MedbenchError(f"rule file {path} cannot be read: {error.strerror}.") from error
    if not isinstance(document, dict):
        raise MedbenchError(f"rule file {path}: expected 'categories:' and 'rules:' at the top.")
    strange = set(document) - {*_SECTIONS, _LINE}
    if strange:
        raise MedbenchError(f"rule file {path}: {unknown('section', min(strange), _SECTIONS)}")
    return document


def _section(file: str, document: Mapping[str, Any], name: str, kind: type[K]) -> K:
    """One section of a rule file, empty where it has none."""
    found = document.get(name) or kind()
    if not isinstance(found, kind):
        raise MedbenchError(
            f"{file}: {name!r} must be a {'list' if kind is list else 'mapping'}, found {type(found).__name__}."
        )
    return found


def _fields(where: str, row: object, known: Collection[str], needed: Sequence[str]) -> dict[str, Any]:
    """The row, which is a mapping with these fields."""
    if not isinstance(row, dict):
        raise MedbenchError(f"{where}: expected a mapping with {', '.join(needed)}, found {row!r}.")
    for name in row:
        if name != _LINE and name not in known:
            raise MedbenchError(f"{where}: {unknown('field', str(name), known)}")
    for name in needed:
        if not row.get(name):
            raise MedbenchError(f"{where}: {name!r} is missing.")
    return row


def _examples(where: str, rows: object) -> tuple[Example, ...]:
    if not isinstance(rows, list):
        raise MedbenchError(f"{where}: 'examples' must be a list of {{text, expect}}, found {rows!r}.")
    found = []
    for row in rows:
        if not isinstance(row, dict) or not {"text", "expect"} <= set(row):
            raise MedbenchError(f"{where}: an example needs 'text' and 'expect', found {row!r}.")
        options = {key: _plain(value) for key, value in row.items() if key not in ("text", "expect", _LINE)}
        found.append(Example(str(row["text"]), str(row["expect"]), options, row[_LINE]))
    return tuple(found)


def _plain(value: object) -> object:
    """A YAML value without its line marks; ``true`` and ``false`` as such, since scalars are read as text."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key != _LINE}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _category(file: str, name: str, stated: object, language: str) -> Category:
    where = f"{file}, category {name!r}"
    if not re.fullmatch(r"[A-Z][A-Z_]+", str(name)):
        raise MedbenchError(f"{where}: a category's name is two or more capitals and underscores.")
    row = _fields(where, stated, {"words", "examples", "language"}, ("words",))
    line = row[_LINE]
    where = f"{file}, line {line}, category {name!r}"
    words = []
    for entry in row["words"]:
        if isinstance(entry, dict):
            _fields(where, entry, {"word", "examples"}, ("word", "examples"))
            own = _examples(f"{where}, word {entry['word']!r}", entry["examples"])
            words.append(Word(str(entry["word"]), entry[_LINE], own))
        else:
            words.append(Word(str(entry), line))
    return Category(
        name, row.get("language", language), tuple(words), _examples(where, row.get("examples") or []), file, line
    )


def _rule(file: str, stated: object, language: str, kinds: Collection[str]) -> Rule:
    name = stated.get("name", "?") if isinstance(stated, dict) else "?"
    line = stated.get(_LINE, 0) if isinstance(stated, dict) else 0
    where = f"{file}, line {line}, rule {name!r}"
    row = _fields(where, stated, _RULE_FIELDS, ("name", "kind", "examples"))
    if row["kind"] not in kinds:
        raise MedbenchError(f"{where}: {unknown('kind', str(row['kind']), kinds)}")
    sign = str(row.get("sign", "+"))
    if sign not in ("+", "-"):
        raise MedbenchError(f"{where}: sign must be '+' or '-', not {sign!r}.")
    patterns = row.get("patterns") or [row.get("pattern")]
    if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
        raise MedbenchError(f"{where}: give one 'pattern', or several as a list 'patterns'.")
    return Rule(
        name=str(name),
        kind=str(row["kind"]),
        sign=sign,
        patterns=tuple(patterns),
        language=str(row.get("language", language)),
        examples=_examples(where, row["examples"]),
        file=file,
        line=line,
        note=str(row.get("note", "")),
    )


def _fragment(
    where: str, text: object, earlier: set[str], categories: Sequence[Category], extra: Collection[str]
) -> None:
    if not isinstance(text, str) or not text:
        raise MedbenchError(f"{where}: a fragment is the text of a piece of a pattern, not {text!r}.")
    known = earlier | {category.name for category in categories} | set(extra)
    for names in _CATEGORY.findall(text):
        for name in names.split("|"):
            if name not in known:
                raise MedbenchError(f"{where}: {unknown('category or earlier fragment', name, known)}")


def _check_names(categories: Sequence[Category], rules: Sequence[Rule], extra: set[str]) -> None:
    known = {category.name for category in categories} | extra
    for what, where in _twice((rule.name, rule.where) for rule in rules):
        raise MedbenchError(f"{where}: a rule named {what!r} is already there; names are unique.")
    words = (
        (f"{entry.word!r} ({category.language})", f"{category.file}, line {entry.line}, category {category.name}")
        for category in categories
        for entry in category.words
    )
    seen: dict[tuple[str, str], str] = {}
    for what, where in words:
        key = (what, where.rsplit(" ", 1)[1])
        if key in seen:
            raise MedbenchError(f"{where}: the word {what} is already there ({seen[key]}).")
        seen[key] = where
    for rule in rules:
        for name in sorted(rule.categories() - known):
            raise MedbenchError(f"{rule.where}: {unknown('category', name, known)}")


def _twice(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for what, where in pairs:
        if what in seen:
            yield what, where
        seen.add(what)
