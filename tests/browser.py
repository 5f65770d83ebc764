"""Headless Chromium, driven over its debugging pipe: no driver, no package, no network."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)

# The least contrast of a page's texts with what is behind them, as WCAG counts it, where it is, and
# the number of texts; a canvas mixes the colours as the browser does.
CONTRAST = """(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const mixed = (colours) => {
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const worst = [99, "", 0];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !element.checkVisibility() || element.matches("script, noscript, style, option, :disabled")) continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement) {
      behind.unshift(getComputedStyle(at).backgroundColor);
      if (getComputedStyle(at).opacity !== "1") throw Error("opacity: " + at.outerHTML);
    }
    const style = getComputedStyle(element);
    const ground = mixed(["white", ...behind]);
    const ink = mixed([`rgb(${ground})`, element.namespaceURI.includes("svg") ? style.fill : style.color]);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    worst[2] += 1;
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < worst[0]) [worst[0], worst[1]] = [ratio, element.outerHTML.slice(0, 80)];
  }
  return worst;
})()"""  # noqa: E501


def executable() -> str | None:
    """Chromium or Chrome, where it is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@contextlib.contextmanager
def opened(
    page: Path | str, *, profile: Path | None = None, width: int = 1280, height: int = 900
) -> Iterator[Tab]:
    """A tab that shows a file, or an address with a folder for the browser's profile."""
    address = page if isinstance(page, str) else page.resolve().as_uri()
    folder = profile or Path(page).parent / "profile"
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()

    def wire() -> None:  # the browser reads from 3 and writes to 4, which may be taken by a pipe
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us)]
        for place, end in enumerate(ends, 3):
            os.dup2(end, place)

    process = subprocess.Popen(
        [
            str(executable()),
            *FLAGS,
            f"--user-data-dir={folder}",
            f"--window-size={width},{height}",
        ],
        preexec_fn=wire,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        with os.fdopen(to_browser, "wb") as write, os.fdopen(from_browser, "rb") as read:
            tab = Tab(write, read)
            tab.open(address, width, height)
            yield tab
    finally:
        process.kill()
        process.wait()


class Tab:
    """A page: evaluate, press keys, take pictures; `errors` are what its console complained of."""

    def __init__(self, write: Any, read: Any) -> None:
        self._write, self._read = write, read
        self._number, self._buffer = 0, b""
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []

    def open(self, address: str, width: int, height: int) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Performance.enable", timeDomain="threadTicks")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=address)
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def reload(self) -> None:
        """Load the page anew, and wait until it is there."""
        self.run("window.old = true; location.reload()")
        self.until("!window.old && document.readyState === 'complete'")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true, over reloads of the page."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):  # of a page that is going
                if self.run(expression):
                    return
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {expression}")
            time.sleep(0.02)

    def prefer(self, scheme: str) -> None:
        """Make the system prefer "light" or "dark"."""
        wish = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[wish])

    def least_contrast(self) -> tuple[float, str, int]:
        """The least contrast of the texts on show, where it is, and their number."""
        least, where, count = self.run(CONTRAST)
        return least, where, count

    def busy_seconds(self) -> float:
        """What the page's main thread has worked so far, however busy the machine is."""
        found = self.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in found if metric["name"] == "TaskDuration")

    def press(self, key: str) -> None:
        """One key, with the text it types."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        """What the window shows, as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while (answer := self._message()).get("id") != self._number:
            pass
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read.fileno(), 1 << 20)
            if not more:
                raise AssertionError("the browser has gone")
            self._buffer += more
        first, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(first)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
