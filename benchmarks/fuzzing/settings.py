"""What users write by hand, fuzzed: studies, recipes, prompt sets, rule files, mappings of own sets, chat templates."""

from __future__ import annotations

import random
from typing import Any

from fuzzing import texts, values
from fuzzing.case import Case, Surface, require
from fuzzing.records import WORK


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [
        Surface("study", 2_000, lambda rng: _yaml_case(rng, STUDY), _study, least=100),
        Surface("recipe", 2_000, _recipe_case, _recipe, least=100),
        Surface("prompt set", 2_000, lambda rng: _yaml_case(rng, PROMPTS), _prompts, least=50),
        Surface("rule file", 2_000, lambda rng: _yaml_case(rng, RULES), _rules, least=50),
        Surface("own set", 2_000, _mapping_case, _mapping, least=10),
        Surface("template", 2_000, _template_case, _template, seconds=120, least=30),
    ]


STUDY: dict[str, Any] = {
    "base": "models/x",
    "adapters": {"pt": "adapters/pt", "sft": "adapters/sft"},
    "candidates": [
        {"pt": "0..1 step 0.1", "sft": "1 - pt"},
        {"pt": 0.3, "sft": 0.7, "method": "ties", "density": 0.5},
        {"model": "openai/gpt-5-mini", "args": {"a": 1}},
        {"model": "openai-api/server/mix", "weights": {"pt": 0.3, "sft": 0.7}, "name": "m"},
    ],
    "controls": True,
    "tasks": [
        {"task": "medbench/f5", "args": {"source": "valid.jsonl"}},
        {"task": "medbench/medqa", "cue_controls": ["options_only", {"control": "reorder", "orders": 4}]},
    ],
    "decoding": [{"temperature": 0}, {"temperature": 0.6, "top_p": 0.8, "seeds": [1, 2, 3]}],
    "thinking": ["default"],
    "system": "training",
    "limit": 200,
    "epochs": 1,
    "model_args": {"dtype": "float32"},
    "max_samples": 4,
    "serve": {"kind": "vllm", "base_url": "http://localhost:8000/v1", "model": "b", "max_rank": 64, "slots": 2},
}
RECIPE: dict[str, Any] = {
    "model_name_or_path": "models/x",
    "dataset": ["a.jsonl", "b.jsonl"],
    "output_dir": "out",
    "lora_rank": 8,
    "lora_alpha": 16.0,
    "learning_rate": "1e-4",
    "num_train_epochs": 1,
    "bf16": "auto",
    "quantization_bit": None,
    "val_size": 0.1,
    "template": "chat",
    "packing": True,
    "save_steps": 20,
    "logging_steps": 10,
}
PROMPTS: dict[str, Any] = {
    "prompts": [
        {
            "name": "exam",
            "mode": "generate",
            "form": "line_last",
            "fewshot": 3,
            "answers": "one",
            "en": "{question}\n{options}",
            "zh": "{question}{options}",
        },
        {"name": "first", "mode": "logprob", "en": "Q {question} {options} {context}", "of": "choice#exam"},
    ],
    "items": {"only": ["a"], "without": ["b"]},
    "tuning": {"candidate": "c"},
}
RULES: dict[str, Any] = {
    "language": "en",
    "categories": {
        "ANSWER": {
            "words": ["answer", {"word": "key", "examples": [{"text": "key B", "expect": "B"}]}],
            "examples": [{"text": "The {word} is B.", "expect": "B"}],
        }
    },
    "fragments": {"STATED_AS": "[ANSWER]{0,3}"},
    "rules": [
        {
            "name": "answer_is",
            "kind": "states",
            "sign": "+",
            "pattern": "[ANSWER] [STATED_AS] {option}",
            "examples": [{"text": "answer B", "expect": "B"}],
            "note": "n",
        }
    ],
}
MAPPING: dict[str, Any] = {
    "name": "ward exam",
    "source": "own.jsonl",
    "question": "stem",
    "options": ["A", "B", "C"],
    "answer": "key",
    "group": "g",
    "kind": "choice",
    "mode": "generate",
    "fewshot_seed": 3,
    "shuffle_options": 4,
    "on_bad_row": "skip",
    "prompt_language": "en",
}
_RANGES = (
    "0..1 step 1e-9", "0..1e9", ".5.5..1", "..", "1..0", "0..0", "0..1 step 0", "-1..1 step .5", "1 - pt", "1 - zz",
    "1e999 - pt", "0..1 step .0001",
    "0..9999999999999999999999999999999999", "0..1 step 0.1 ", "nan..1", "--1..2", "0.1.2 - pt", "1 -",
    "0..1 step 99999999999999999999999999999",
)  # fmt: skip
_RAW = (
    "[" * 100_000,
    "{" * 100_000,
    "- " * 50_000,
    "a: &a [*a]",
    "&a [*a, *a]",
    "? [1]\n: 2",
    "!!python/object:os.system x",
    "\x00",
    "%YAML",
    "\tx: 1",
    "a: b: c",
    "a: 2024-13-45",
    "<<: *x",
    "a: !!binary x",
    "a: !!set {1, 2}",
    "a: &x [1]\nb: [" + "*x," * 3000 + "]",
    "? ? ? a",
    "--- a\n--- b",
    "'",
    '"\\uD800"',
    "2001-01-01: 1",
    "a: &a {b: &b {c: *a}}",
    "? {a: 1}\n: 1",
    "- 0x_",
    "a: 1_0:60",
    "a: .inf",
    "a: ~",
    "~: a",
    "1: a",
    "a: !!timestamp x",
    "a: !!float .",
    "a: !!int _",
    "!!map x",
)


def _yaml_case(rng: random.Random, valid: dict[str, Any]) -> Case:
    kind = rng.random()
    if kind < 0.004:
        return {"data": rng.choice(_RAW).encode("utf-8", "surrogatepass")}
    if kind < 0.02:
        return {"data": texts.text(rng, 500).encode("utf-8", "replace")}
    document = values.changed(rng, valid)
    if kind < 0.1 and isinstance(document, dict) and isinstance(document.get("candidates"), list):
        document["candidates"].append(
            {"pt": rng.choice(_RANGES), "sft": rng.choice(_RANGES), "method": rng.choice(("linear", "ties", "x"))}
        )
    data = values.as_yaml(rng, document).encode("utf-8", "surrogatepass")
    return {"data": values.damaged(rng, data) if rng.random() < 0.25 else data}


def _study(case: Case) -> None:
    from medbench.trainers.study import read_study

    path = WORK / "study.yaml"
    path.write_bytes(case["data"])
    study = read_study(path)
    names = [candidate.name for candidate in study.candidates]
    require(names and len(set(names)) == len(names), "candidates without names of their own")
    require(study.runs, "a study without runs")
    str(study.base)


def _recipe_case(rng: random.Random) -> Case:
    overrides = []
    for _ in range(rng.randrange(3)):
        key = rng.choice([*RECIPE, "x", "", "seed", "optim", "resume_from_checkpoint"])
        overrides.append(
            f"{key}={rng.choice((texts.word(rng), '1', '[1', '1e400', '{a: b}', '.nan', 'true', '-1', '[' * 3000))}"
        )
    return {**_yaml_case(rng, RECIPE), "overrides": overrides, "stage": rng.choice(("pt", "sft"))}


def _recipe(case: Case) -> None:
    from medbench.trainers.recipe import load_recipe

    path = WORK / "recipe.yaml"
    path.write_bytes(case["data"])
    recipe, origin = load_recipe(case["stage"], path, case["overrides"])
    require(recipe.lora_rank >= 1 and recipe.learning_rate > 0, "a setting that is no setting")
    require(recipe.listed("dataset"), "no data set")
    require(
        set(origin.values()) <= {"default", f"recipe {case['stage']}", str(path), "command line"},
        "a value from nowhere",
    )


def _prompts(case: Case) -> None:
    from medbench.benchmark.prompt_set import read_prompt_set, to_entry, write_set
    from medbench.sources.items import Item

    path = WORK / f"prompts-{len(case['data']) % 7}.yaml"
    path.unlink(missing_ok=True)
    path.write_bytes(case["data"])
    found = read_prompt_set(str(path))
    item = Item(question="Q?", language="en", source="s", options=("a", "b"), answer=("A",), context="c")
    for template in found.templates.values():
        for language in template.texts:
            require("Q?" in template.render(item, language), "a prompt without its question")
        write_set({"prompts": [to_entry(template)]})
        require(len(template.sha256) == 64, "no hash")


def _rules(case: Case) -> None:
    from medbench.reading.engine import SentenceEngine
    from medbench.reading.rulefile import load
    from medbench.reading.tokens import KINDS

    path = WORK / "rules.yaml"
    path.write_bytes(case["data"])
    found = load(str(path), kinds=(*KINDS, "states"))
    for category in found.categories:
        for entry in category.words:
            category.examples_of(entry)
    if not any(rule.kind == "states" for rule in found.rules):
        SentenceEngine(found)


def _mapping_case(rng: random.Random) -> Case:
    return {
        **_yaml_case(rng, MAPPING),
        "rows": values.as_json_lines(rng, values.changed(rng, _WARD, rng.choice((0, 1, 2)))),
    }


_WARD = [
    {"stem": f"Question {n}?", "A": "one", "B": "two", "C": "three", "key": "AB"[n % 2], "g": n % 3} for n in range(4)
]


def _mapping(case: Case) -> None:
    from medbench.benchmark import catalog

    (WORK / "own.jsonl").write_text(case["rows"], "utf-8", errors="replace")
    path = WORK / "own.yaml"
    path.write_bytes(case["data"])
    made = catalog.make(str(path))
    require(len(made.dataset) > 0, "a task without items")
    require(len({sample.id for sample in made.dataset}) == len(made.dataset), "two samples of one id")


_TEMPLATES = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set x = 'a' * 10**9 %}{{ x }}", "{{ 'a' * (10**12) }}", "{{ 10**10**8 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in range(9999) %}{{ 'a' * 99999 }}{% endfor %}",
    "{% for i in range(50000) %}{{ messages }}{% endfor %}",
    "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{{ messages[9].content }}",
    "{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}", "{{ raise_exception('no') }}", "{% if %}",
    "{{", "{% for m in messages %}", "{{ messages | length / 0 }}",
    "{{ messages | map(attribute='content') | join | center(10**9) }}", "{{ lipsum(n=10**6) }}",
    "{{ 'x' | indent(10**9) }}", "{{ undefined.x }}", "{{ messages | tojson(indent=10**8) }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{{ '%0999999999d' % 1 }}", "{{ '{:>999999999}'.format(1) }}",
    "{{ 'a'.join(range(99999) | map('string')) }}",
    "{{ (('a' * 99999 + 'b') | replace('a', 'a' * 99999)) }}", "{{ messages | list | sort | batch(1) | list }}",
    "{{ strftime_now('%Y' * 10**7) }}", "",
)  # fmt: skip


def _template_case(rng: random.Random) -> Case:
    """A chat template, mostly the well-behaved one changed; the hostile ones as they stand, seldom, for their time."""
    kind = rng.random()
    if kind < 0.01:
        return {"template": rng.choice(_TEMPLATES), "hostile": True}
    made = _TEMPLATES[0]
    for _ in range(1 + rng.randrange(4)):
        at = rng.randrange(len(made) + 1)
        made = rng.choice(
            (
                made[:at] + rng.choice(_SNIPPETS) + made[at:],
                made[:at] + made[at + 5 :],
                made[:at] + rng.choice(texts.ODD) + made[at:],
            )
        )
    return {"template": made, "hostile": False}


_SNIPPETS = (
    "{{ m }}", "{{ messages[0] }}", "{% if thinking %}<think>{% endif %}", "{%- ", "-%}", "{{ m.role.upper() }}",
    "{% set x = 1 %}", "{{ x }}", "{# #}", "|tojson",
    "{% raw %}", "{% endraw %}", "{{ m['content'] | trim }}", "{{ 1 // 0 }}",
    "{{ m.content.split('</think>')[-1] }}", "{% endfor %}", "{% break %}", "{{ [] * 3 }}", "{{ 'a' * 20000 }}",
)  # fmt: skip


def _template(case: Case) -> None:
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    from medbench.provider.chat import render
    from medbench.provider.template_bound import require_bounded

    if case["hostile"]:
        require_bounded(case["template"])
    found = render([ChatMessageSystem(content="S"), ChatMessageUser(content="Q?")], _tokenizer(), case["template"])
    require(isinstance(found.text, str) and len(found.text) < 1 << 24, "a prompt without bound")


_KEPT: list[Any] = []


def _tokenizer() -> Any:
    """The micro-lab's tokenizer."""
    if not _KEPT:
        from transformers import AutoTokenizer

        _KEPT.append(AutoTokenizer.from_pretrained(str(texts.ROOT / "medbench" / "data" / "microlab")))
    return _KEPT[0]
