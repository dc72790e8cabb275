"""A headless Chromium, driven over its debugging pipe: enough to open a page, run a script in it and press keys.

The protocol is Chromium's own (DevTools over --remote-debugging-pipe: JSON messages that end in a zero byte), so that
neither a driver nor a package is needed beside the browser that Debian ships. Used by tests and by report.py.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--mute-audio")


class Page:
    """One page of a Chromium of its own.

    Attributes:
        events: protocol events seen so far; errors, dialogs and requests are among them.
    """

    def __init__(self, width: int = 1280, height: int = 900, *, dark: bool = False, scripts: bool = True) -> None:
        if PROGRAM is None:
            raise FileNotFoundError("no chromium on this machine: apt-get install chromium")
        self.events: list[dict[str, Any]] = []
        self._next, self._buffer = 0, b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Chromium reads its commands from descriptor 3 and answers on 4, whatever numbers the pipes have here.
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        command = [PROGRAM, *_FLAGS, f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attach = {"targetId": target["targetId"], "flatten": True}
        self._session = self.send("Target.attachToTarget", attach)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.send("Emulation.setScriptExecutionDisabled", {"value": not scripts})

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)  # the end of its commands ends Chromium
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._profile.cleanup()

    def send(self, method: str, parameters: dict[str, Any] | None = None, timeout: float = 60) -> dict[str, Any]:
        """Run a command of the protocol and give its result; what else arrives meanwhile is kept in `events`.

        Raises:
            RuntimeError: the browser refuses the command, ends, or does not answer in time.
        """
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters or {}}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)
            # A dialog stops the page until it is closed.
            if answer.get("method") == "Page.javascriptDialogOpening":
                closing = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
                os.write(self._write, json.dumps({**closing, "sessionId": self._session}).encode() + b"\0")

    def _receive(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError(f"chromium gave no answer to {waiting_for}")
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def open(self, file: Path) -> None:
        """Open a local file and wait until it has loaded."""
        self.events.clear()
        self.send("Page.navigate", {"url": file.resolve().as_uri()})
        deadline = time.monotonic() + 60
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive(deadline, "load"))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for. The page's own policy does not bind it.

        Raises:
            RuntimeError: the script throws.
        """
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key as a keyboard does: ``Tab``, ``Enter``, ``Space``."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}
        code, text = codes[key]
        stroke = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", {"type": kind, **stroke})

    def screenshot(self, file: Path) -> None:
        """What is seen now, as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", {"format": "png"})["data"]))

    def seen(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of all events of these kinds since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") in methods]
