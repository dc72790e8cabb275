"""The front door, as a process: what a user sees who asks for something that cannot be had."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medbench.advice import install

# The optional packages cannot be found, as if they were not installed.
WITHOUT_EXTRAS = """
import sys

class NotInstalled:
    names = {"torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "trl", "ray"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
from medbench.cli import main
main()
"""


def run(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "1000"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["demo", "--out", "demo"], "local"),
        (["merge", "--base", "b", "--adapter", "pt=a:1", "--out", "m"], "local"),
        (["verify-merge", "--base", "b", "--merged", "m", "--adapter", "pt=a"], "local"),
        (["microlab", "build", "--out", "lab"], "train"),
        (["train", "sft", "dataset=rows.jsonl", "model_name_or_path=b", "output_dir=o"], "train"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_command_without_its_optional_install_names_it(arguments: list[str], extra: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "What is insulin?", "output": "A hormone."}\n', "utf-8")
    done = run(WITHOUT_EXTRAS, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert install(extra) in done.stderr
    assert sorted(tmp_path.iterdir()) == [rows]


def test_metrics_and_help_need_no_optional_install(tmp_path: Path) -> None:
    rows = [{"predict": f"take {word} daily", "label": f"take {word} weekly"} for word in ("one", "two", "three")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert run(WITHOUT_EXTRAS, "--help", cwd=tmp_path).returncode == 0
    done = run(WITHOUT_EXTRAS, "metrics", "rows.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bleu4" in done.stdout


def test_a_sweep_of_models_elsewhere_needs_no_optional_install(tmp_path: Path) -> None:
    row = {"question": "Which organ makes insulin?", "options": ["liver", "pancreas"], "answer": "B"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (tmp_path / "own.yaml").write_text("source: own.jsonl\n", "utf-8")
    (tmp_path / "study.yaml").write_text("candidates: [{model: mockllm/model}]\ntasks: [own.yaml]\n", "utf-8")
    done = run(WITHOUT_EXTRAS, "sweep", "study.yaml", "--out", "out", "--display", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs done" in done.stdout


def test_inspect_shows_brackets_of_an_error_as_they_stand(tmp_path: Path) -> None:
    # rich would take [/b] for a closing tag that nothing opened
    row = {"question": "Which drug?", "options": {"A": "x", "B": "y"}, "answer": "x", "answer_idx": "[/b]"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    code = "import runpy; runpy.run_module('inspect_ai', run_name='__main__')"
    arguments = ["eval", "medbench/medqa", "-T", "source=rows.jsonl", "--model", "mockllm/model", "--display", "plain"]
    done = run(code, *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert "'[/b]'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_misspelt_task_of_inspects_own_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'inspect'; from medbench import _registry"
    for arguments in (["eval", "medbench/medqaa"], ["eval-set", "--limit", "3", "medbench/medqaa@x", "-T", "a=b"]):
        done = run(code, *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "unknown task 'medqaa'. Did you mean medqa or " in done.stderr
    for arguments in (["eval", "medbench/medqa", "--model", "medbench/medqaa"], ["score", "medbench/medqaa"]):
        assert run(code, *arguments, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("", "rows.jsonl cannot be written or read: Not a directory"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))",
            "Make room and run the same command",
        ),
    ],
    ids=["out is a file", "disk full"],
)
def test_a_place_that_cannot_be_written_is_named(before: str, told: str, tmp_path: Path) -> None:
    row = {"instruction": "Which bone of the human body is the longest of all?", "output": "The femur of the thigh."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    out = "found" if before else "rows.jsonl"
    code = f"{before}\nfrom medbench.cli import main; main()"
    done = run(code, "audit", "rows.jsonl", "--against", "rows.jsonl", "--out", out, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_markup_in_names_is_shown_and_not_obeyed() -> None:
    files = [
        path
        for room in ("medbench", "trainers", "reports", "probes")
        for path in (Path(__file__).parents[1] / room).rglob("*.py")
    ]
    made = [(path.name, text) for path in files for text in re.findall(r"(?<!\w)Console\(.*", path.read_text("utf-8"))]
    assert len(made) > 8
    assert [one for one in made if "markup=False" not in one[1]] == []
