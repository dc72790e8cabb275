"""What is said while kernels are compiled: on stderr, once, and only where nothing was compiled before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = """
from medbench.leakage.tokens import Tokeniser
print(len(Tokeniser()([b"one two three"]).unit_start))
"""
SURFACE = """
from medbench.surface.tokens import TokenizedText
print(TokenizedText("two words", "en").bleu_words[1].tolist())
"""


def run(code: str, cache: Path) -> tuple[str, str]:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "what", "result"), [(AUDIT, "the audit", "2\n"), (SURFACE, "the surface metrics", "[[0, 3], [4, 9]]\n")]
)
def test_compiling_is_announced_once_and_not_on_stdout(code: str, what: str, result: str, tmp_path: Path) -> None:
    out, err = run(code, tmp_path)
    assert out == result
    assert err.count("medbench: compiling") == 1 == err.count(f"compiling {what} for this machine")
    assert run(code, tmp_path) == (result, "")


NOWHERE = "from numba.core import caching; caching.CacheImpl._locator_classes = []\n"


def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path: Path) -> None:
    """An installation that is read-only, for a user without a home: numba has no folder for its cache."""
    for _ in range(2):
        out, err = run(NOWHERE + AUDIT, tmp_path)
        assert out == "2\n"
        assert "compiling the audit" in err
        assert "NUMBA_CACHE_DIR" in err
    assert not list(tmp_path.iterdir())
    assert run(NOWHERE + "import medbench.stats.association, medbench.surface.segment", tmp_path) == ("", "")
