"""A Hugging Face hub on this machine: what `huggingface_hub` and `datasets` ask for, served from files in memory.

It answers as the hub's documented HTTP API does: a repository's facts and files, their paths, and the files themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

# "datasets/owner/name" or "models/owner/name" -> branch or commit -> path -> content;
# a branch is given as the name of the commit it stands for
Repositories = dict[str, dict[str, str | dict[str, bytes]]]


@contextmanager
def serving(repositories: Repositories) -> Iterator[str]:
    """The address of a hub that holds these data sets and models, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, value: Any) -> None:
            self._send(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

        def _missing(self, code: str) -> None:
            self._send(b"", 404, {"X-Error-Code": code, "X-Error-Message": code})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            paths = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked)["paths"]
            self._answer(paths)

        def do_GET(self) -> None:
            self._answer([])

        def _answer(self, paths: list[str]) -> None:
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts[0] == "api":
                parts = parts[1:]
            elif parts[0] != "datasets":
                parts = ["models", *parts]
            commits = repositories.get("/".join(parts[:3]))
            if commits is None:
                return self._missing("RepoNotFound")
            action, revision, *path = [*parts[3:], *("revision", "main")[len(parts[3:]) :]]
            files = commits.get(revision)
            if isinstance(files, str):
                revision, files = files, commits[files]
            if not isinstance(files, dict):
                return self._missing("RevisionNotFound")
            if action == "revision":
                return self._json(
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
                if "recursive=true" not in self.path.lower():
                    found = {file: entry for file, entry in found.items() if "/" not in file[len(inside) :]}
                directories = [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders)]
                return self._json([*directories, *found.values()])
            if action == "paths-info":
                return self._json([_entry(file, files[file]) for file in paths if file in files])
            if action == "resolve" and "/".join(path) in files:
                body = files["/".join(path)]
                headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": revision}
                return self._send(body, headers=headers)
            return self._missing("EntryNotFound")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def environment(address: str, home: Path) -> dict[str, str]:
    """For a process that shall know this hub only, and keep what it downloads in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
