"""A page in headless Chromium, through its debugging protocol: what it says, and how it looks."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""None: there is none on this machine."""


class Page:
    """An open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self._socket, self._number = socket, 0

    async def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            answer = json.loads((await self._socket.receive()).data)
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return answer["result"]

    async def value(self, script: str) -> Any:
        """What an expression of JavaScript gives."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, script: str, limit_sec: float) -> None:
        """Waits until an expression is true."""
        ends = time.monotonic() + limit_sec
        while not await self.value(script):
            assert time.monotonic() < ends, f"{script}: not within {limit_sec:g} s: " + await self.text()
            await asyncio.sleep(0.5)

    async def wait_for_text(self, text: str, limit_sec: float) -> None:
        """Waits until a person reads this text on the page, which has no body while it is loaded."""
        await self.wait_for(
            f"!!document.body && document.body.innerText.includes({json.dumps(text)})", limit_sec
        )

    async def open(self, url: str) -> None:
        """Goes to an address, as if it was typed into a new tab."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def text(self) -> str:
        """What a person reads on the page."""
        return str(await self.value("document.body ? document.body.innerText : ''"))

    async def save(self, file: Path) -> None:
        """Writes a picture of the page as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page(width: int = 1600, height: int = 1200, *, dark: bool = False) -> AsyncIterator[Page]:
    """A new page in a browser of its own, without anything that another browser remembers."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a browser ends bit by bit
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ]
        command = [CHROMIUM, *flags, f"--window-size={width},{height}", "--remote-debugging-port=0"]
        log = Path(folder) / "log"
        with log.open("w") as output:
            browser = subprocess.Popen([*command, "about:blank"], stdout=output, stderr=output)
        try:
            port_file = Path(folder) / "DevToolsActivePort"
            ends = time.monotonic() + 60
            while not port_file.exists() or "\n" not in port_file.read_text():
                assert browser.poll() is None and time.monotonic() < ends, log.read_text()
                await asyncio.sleep(0.1)
            port = port_file.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    targets = [each for each in await answer.json() if each["type"] == "page"]
                url = targets[0]["webSocketDebuggerUrl"]
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    opened = Page(socket)
                    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                    await opened.call("Emulation.setEmulatedMedia", features=[scheme])
                    yield opened
        finally:
            browser.terminate()
            browser.wait(30)
