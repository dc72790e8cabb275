"""A trace inside the text, and in a field of its own, at a llama.cpp server: the same scores.

The model is random; a grammar makes it write what is asked for. How the server then cuts it is the server's own doing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="the extra gguf is not installed")
pytest.importorskip("openai", reason="the extra api is not installed")
pytest.importorskip("xllamacpp", reason="no llama.cpp server is installed: pip install xllamacpp")

# As Qwen3's: the model opens its trace itself.
TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' and m.reasoning_content -%}"
    "{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif -%}"
    "{{ m.content + '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}"
    "{%- endif -%}"
)
OUTPUT = "<think>\nIt may be option A, since the answer is A in many books.\n</think>\n\nThe answer is C."
ROW = {
    "question": "Which organ makes insulin?",
    "answer": "Pancreas",
    "options": {"A": "Liver", "B": "Kidney", "C": "Pancreas", "D": "Spleen"},
    "answer_idx": "C",
    "meta_info": "step1",
}


def scores(address: str, source: Path, out: Path, reasoning_format: str) -> tuple[dict[str, Any], Any]:
    """The scores of one sample, and what the message held."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import GenerateConfig, get_model

    from medbench.tasks.medqa import medqa

    grammar = "root ::= " + json.dumps(OUTPUT)
    body = {"grammar": grammar, "reasoning_format": reasoning_format}
    model = get_model(
        "openai-api/llama/model", base_url=f"{address}/v1", api_key="none", memoize=False,
        config=GenerateConfig(extra_body=body, max_tokens=200),
    )  # fmt: skip
    (log,) = inspect_eval(medqa(source=str(source)), model=model, log_dir=str(out / reasoning_format), display="none")
    assert log.status == "success", log.error
    (sample,) = log.samples or []
    return {name: score.value for name, score in (sample.scores or {}).items()}, sample.output.message.content


def test_where_the_trace_lies_changes_no_score(tmp_path: Path) -> None:
    from tiny_gguf import build_llama

    from medbench.served.llama_server import serving

    _, file = build_llama(tmp_path, template=TEMPLATE)
    source = tmp_path / "medqa.jsonl"
    source.write_text(json.dumps(ROW) + "\n")
    with serving(file) as address:
        inside, text = scores(address, source, tmp_path, "none")
        apart, parts = scores(address, source, tmp_path, "deepseek")
    # Inspect itself takes a trace out of the text, and says that its tags were there.
    for (trace, answer), where in ((text, "think"), (parts, "reasoning_content")):
        assert (trace.type, trace.internal) == ("reasoning", where)
        assert "option A" in trace.reasoning
        assert answer.text.strip() == "The answer is C."
    assert inside == apart
    (read,) = (value for value in inside.values() if isinstance(value, dict) and "accuracy/answer" in value)
    assert read["accuracy/answer"] == 1
    assert read["accuracy/raw"] == 1
