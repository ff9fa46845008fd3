"""A real, headless Chromium, driven over its own debugging protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request

from websockets.sync.client import connect

from tests.waiting import until

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


def first_page(port):
    """What is told of the window, once there is one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
        return next((each for each in json.load(reply) if each["type"] == "page"), None)


class Browser:
    """One window."""

    def __init__(self, directory):
        self._profile = directory / "profile"
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(directory)},
        )  # fmt: skip
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + 120
        while not told.exists() or "\n" not in told.read_text():
            assert time.monotonic() < deadline and self._process.poll() is None, "the browser did not start"
            time.sleep(0.1)
        port = told.read_text().split()[0]
        page = until(lambda: first_page(port))
        self._opening = connect(page["webSocketDebuggerUrl"], max_size=None)
        self._link = self._opening.__enter__()
        self._number = 0
        self.complaints = []
        for domain in ("Page", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method, **params):
        self._number += 1
        self._link.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._link.recv(timeout=120))
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"].get("exception", {}).get("description"))
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script):
        answer = self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script):
        deadline = time.monotonic() + 120
        while not (found := self.run(f"(() => {{ try {{ return {script}; }} catch {{ return null; }} }})()")):
            assert time.monotonic() < deadline, f"never: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.1)
        return found

    def size(self, width, height):
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.do("Emulation.setDeviceMetricsOverride", **screen)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            code = {"Enter": 13, "Tab": 9}[name]
            self.do("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text)

    def type(self, text):
        self.do("Input.insertText", text=text)

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self._opening.__exit__(None, None, None)
        self._process.terminate()
        self._process.wait(120)
