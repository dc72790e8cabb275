"""What a killed sweep leaves among its logs, and the next one clears away."""

from __future__ import annotations

from pathlib import Path

from medbench.trainers.sweep import _remove_killed


def test_inspects_own_files_are_removed_and_no_others(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    kept = {"notes": "", "eval-set.json": "{}", "dNwjuek3BkjsmWtr8wpWWR": "someone's"}
    for name, content in {**kept, ".inspect_tmp_frflCJSEKYQ.writing": "PK", "dNwjuek3BkjsmWtr8wpWWQ": ""}.items():
        (logs / name).write_text(content)
    _remove_killed(tmp_path)
    assert {path.name for path in logs.iterdir()} == set(kept)
