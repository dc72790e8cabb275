"""What medbench uses of other packages' private parts: one module a package, and the only place that may.

A private part may go with any release of its package, so `pyproject.toml` bounds those releases, and hosted CI runs the
tests on the newest one. When it fails there, what must be mended is here. `tests/test_private.py` refuses a private
import anywhere else. Each module imports its package when it is imported, so callers of heavy ones import them late.
"""
