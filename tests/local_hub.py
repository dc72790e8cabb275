"""A Hugging Face hub on this machine: what `huggingface_hub` and `datasets` ask for, served from files in memory.

It answers as the hub's documented HTTP API does: a repository's facts and files, their paths, and the files themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import loopback
from loopback import Reply

# "datasets/owner/name" or "models/owner/name" -> branch or commit -> path -> content;
# a branch is given as the name of the commit it stands for
Repositories = dict[str, dict[str, str | dict[str, bytes]]]


@contextmanager
def serving(repositories: Repositories) -> Iterator[str]:
    """The address of a hub that holds these data sets and models, while the context lasts."""

    def answer(address: str, asked: bytes) -> Reply:
        text = asked.decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        parts = unquote(urlparse(address).path).strip("/").split("/")
        if parts[0] == "api":
            parts = parts[1:]
        elif parts[0] != "datasets":
            parts = ["models", *parts]
        commits = repositories.get("/".join(parts[:3]))
        if commits is None:
            return _missing("RepoNotFound")
        action, revision, *path = [*parts[3:], *("revision", "main")[len(parts[3:]) :]]
        files = commits.get(revision)
        if isinstance(files, str):
            revision, files = files, commits[files]
        if not isinstance(files, dict):
            return _missing("RevisionNotFound")
        if action == "revision":
            return Reply(
                {
                    "id": "/".join(parts[1:3]),
                    "sha": revision,
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "siblings": [{"rfilename": file} for file in files],
                }
            )
        if action == "tree":
            inside = "".join(f"{part}/" for part in path)
            found = {file: _entry(file, files[file]) for file in files if file.startswith(inside)}
            folders = {f"{inside}{file[len(inside) :].split('/')[0]}" for file in found} - found.keys()
            if "recursive=true" not in address.lower():
                found = {file: entry for file, entry in found.items() if "/" not in file[len(inside) :]}
            directories = [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders)]
            return Reply([*directories, *found.values()])
        if action == "paths-info":
            return Reply([_entry(file, files[file]) for file in paths if file in files])
        if action == "resolve" and "/".join(path) in files:
            body = files["/".join(path)]
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": revision}
            return Reply(body, headers=headers)
        return _missing("EntryNotFound")

    with loopback.serving(answer) as address:
        yield address


def environment(address: str, home: Path) -> dict[str, str]:
    """For a process that shall know this hub only, and keep what it downloads in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def _missing(code: str) -> Reply:
    return Reply(b"", 404, {"X-Error-Code": code, "X-Error-Message": code})


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
