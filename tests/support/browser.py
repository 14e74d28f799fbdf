"""Headless Chromium over its own debugging protocol: open a page, ask it, hear what it complains about."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_TIMEOUT_S = 30.0
COMPLAINTS = {
    "Runtime.exceptionThrown": lambda _: True,
    "Runtime.consoleAPICalled": lambda params: params["type"] in {"error", "warning", "assert"},
    "Log.entryAdded": lambda params: params["entry"]["level"] == "error",
    "Audits.issueAdded": lambda params: params["issue"]["code"] != "GenericIssue",  # those are mere advice
}


def find_chromium():
    """The browser's path, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab. ``complaints`` holds errors of scripts, of the console, of loading and of content policies.

    ``requests`` holds every address the page asked for.
    """

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers = {}
        self.complaints = []
        self.requests = []
        self._reader = asyncio.create_task(self._read())

    async def open(self, url):
        """Load a page."""
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def until(self, expression, timeout_s=20.0):
        """Wait until a JavaScript expression is truthy; returns its value."""
        async with asyncio.timeout(timeout_s):
            while True:
                if value := await self.value(expression):
                    return value
                await asyncio.sleep(0.05)

    async def value(self, expression):
        """Value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def media(self, scheme):
        """Prefer ``light`` or ``dark``."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def width(self, pixels):
        """Narrow or widen the window."""
        metrics = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)

    async def screenshot(self, path):
        """Write what is seen, the whole page, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def call(self, method, **parameters):
        """One command of the debugging protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        return await asyncio.wait_for(answer, 20)

    async def close(self):
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self):
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message.get("result", message.get("error")))
            else:
                self._note(message["method"], message["params"])

    def _note(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in COMPLAINTS and COMPLAINTS[method](params):
            self.complaints.append(params)


@asynccontextmanager
async def chromium(binary):
    """A headless browser with a fresh profile; gives its first page."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.to_thread(_start, binary, profile)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with connect(await _page_address(port), max_size=None, proxy=None) as socket:
                page = Page(socket)
                try:
                    yield page
                finally:
                    await page.close()
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def picture(page, name):
    """Keep a picture of the page, where ``SCREENSHOTS`` names a directory."""
    if place := os.environ.get("SCREENSHOTS"):
        await asyncio.to_thread(Path(place).mkdir, parents=True, exist_ok=True)
        await page.screenshot(Path(place) / f"{name}.png")


def _start(binary, profile):
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--window-size=1280,900"]
    options += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    return subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _port(file):
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                return int(file.read_text().split()[0])
            except (OSError, IndexError, ValueError):
                await asyncio.sleep(0.05)


async def _page_address(port):
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(START_TIMEOUT_S):
        while True:
            targets = (await client.get(f"http://127.0.0.1:{port}/json/list")).json()
            for target in targets:
                if target["type"] == "page":
                    return target["webSocketDebuggerUrl"]
            await asyncio.sleep(0.05)
