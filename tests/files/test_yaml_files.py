"""Users' YAML: whatever is wrong with the file is a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medbench.errors import MedbenchError
from medbench.files.yaml_files import MOST_BYTES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: \xff\xfe", "is not valid YAML"),
        (b"- 1\n- 2\n", "expected keys and values .* found list"),
        (b"", "found NoneType"),
        (b"when: 2026-05-45", "is not valid YAML"),
        (b"!!python/object/apply:os.system [ls]", "is not valid YAML"),
        (b"a" * (MOST_BYTES + 1), "at most 1,048,576"),
    ],
)
def test_a_bad_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(MedbenchError, match=rf"study file .*own\.yaml.*{said}"):
        read_yaml(path, "study file")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match=r"study file .* does not exist"):
        read_yaml(tmp_path / "none.yaml", "study file")
    with pytest.raises(MedbenchError, match="cannot be read"):
        read_yaml(tmp_path, "study file")
    with pytest.raises(MedbenchError, match="cannot be read"):
        read_yaml("x" * 5000, "study file")


def test_values_are_plain(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("名: [1, 2.5, yes]\n", "utf-8")
    assert read_yaml(tmp_path / "own.yaml", "mapping") == {"名": [1, 2.5, True]}
    assert parse_yaml("3", "here") == 3
