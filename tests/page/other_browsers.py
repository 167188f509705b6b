"""Firefox, over WebDriver BiDi, and WebKitGTK, over its WebDriver, on a virtual screen."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.sync.client import connect

from tests.conftest import program

WAIT_S: Final = 30.0
SIZE: Final = (1280, 860)
MINI_BROWSER: Final = next(Path("/usr/lib").glob("*/webkit2gtk-4*/MiniBrowser"), None)
PREFERENCES: Final[dict[str, bool | int | str]] = {
    "media.navigator.streams.fake": True,  # the microphone: a steady tone
    "media.navigator.permission.disabled": True,
    "webgl.force-enabled": True,  # by the processor
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "remote.active-protocols": 1,  # BiDi
    # Nothing leaves the machine: all but loopback goes through a proxy that is not there.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
}


@contextmanager
def screen() -> Generator[str]:
    """The name of a display; a skip where Xvfb is not installed."""
    xvfb = program("Xvfb", "xvfb")
    size = f"{SIZE[0]}x{SIZE[1]}x24"
    command = [xvfb, "-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as shown:
        try:
            assert shown.stdout is not None
            yield f":{shown.stdout.readline().strip()}"
        finally:
            shown.terminate()


class Firefox:
    """One page of a Firefox, over the BiDi of a process that was started for it."""

    records_video = True

    def __init__(self, send: Callable[[str], None], receive: Callable[[], str]) -> None:
        self.send, self.receive = send, receive
        self.numbers = itertools.count()
        self.command("session.new", capabilities={})
        self.context = self.command("browsingContext.getTree")["contexts"][0]["context"]

    def command(self, method: str, **params: Any) -> Any:
        n = next(self.numbers)
        self.send(json.dumps({"id": n, "method": method, "params": params}))
        while (answer := json.loads(self.receive())).get("id") != n:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def open(self, url: str) -> None:
        self.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        done = self.command(
            "script.evaluate",
            expression=expression,
            target={"context": self.context},
            awaitPromise=True,
        )
        assert done["type"] == "success", done
        return done["result"]

    def script(self, body: str) -> Any:
        result = self.evaluate(f"(async () => JSON.stringify(await (async () => {{{body}}})()))()")
        return json.loads(result["value"]) if result["type"] == "string" else None

    def click(self, css: str) -> None:
        x, y = self.script(
            f"""const e = document.querySelector({json.dumps(css)});
                e.scrollIntoView({{ block: "center" }});
                const {"{ x, y, width, height }"} = e.getBoundingClientRect();
                return [Math.round(x + width / 2), Math.round(y + height / 2)];"""
        )
        actions = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        pointer = {"type": "pointer", "id": "pointer", "actions": actions}
        self.command("input.performActions", context=self.context, actions=[pointer])

    def upload(self, css: str, file: Path) -> None:
        field = self.evaluate(f"document.querySelector({json.dumps(css)})")
        self.command(
            "input.setFiles",
            context=self.context,
            element={"sharedId": field["sharedId"]},
            files=[str(file)],
        )

    def picture(self) -> bytes:
        shot = self.command("browsingContext.captureScreenshot", context=self.context)
        return base64.b64decode(shot["data"])


@contextmanager
def firefox(environment: dict[str, str], folder: Path) -> Generator[Firefox]:
    """A skip where it is not installed."""
    binary = shutil.which("firefox") or program("firefox-esr", "firefox-esr")
    settings = "".join(
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
        for name, value in PREFERENCES.items()
    )
    (folder / "user.js").write_text(settings)
    process = subprocess.Popen(
        [binary, "--remote-debugging-port", "0", "--profile", folder,
         "--width", str(SIZE[0]), "--height", str(SIZE[1])],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        address = folder / "WebDriverBiDiServer.json"  # once it listens
        deadline = time.monotonic() + WAIT_S
        while not (address.is_file() and address.stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline, "Firefox did not start"
            time.sleep(0.1)
        place = json.loads(address.read_text())
        url = f"ws://{place['ws_host']}:{place['ws_port']}/session"
        with connect(url, max_size=None, proxy=None) as ws:
            yield Firefox(ws.send, lambda: str(ws.recv(WAIT_S)))
    finally:
        process.terminate()
        process.wait(timeout=20)


class WebKit:
    """One page of a MiniBrowser, through selenium."""

    records_video = False  # of a canvas: what Debian builds says that it can, and gives nothing

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def script(self, body: str) -> Any:
        answer = self.driver.execute_async_script(
            f"""const done = arguments[0];
                (async () => {{{body}}})().then(
                  (value) => done({{ value: JSON.stringify(value) }}),
                  (error) => done({{ error: String(error) }}));"""
        )
        assert "error" not in answer, answer["error"]
        return json.loads(answer["value"]) if answer.get("value") else None

    def click(self, css: str) -> None:
        self.driver.find_element("css selector", css).click()

    def upload(self, css: str, file: Path) -> None:
        self.driver.find_element("css selector", css).send_keys(str(file))

    def picture(self) -> bytes:
        return bytes(self.driver.get_screenshot_as_png())


Browser = Firefox | WebKit


def until(browser: Browser, expression: str) -> None:
    """Waits, with an end, until this is true in the page."""
    deadline = time.monotonic() + WAIT_S
    while not browser.script(f"return {expression}"):
        status = browser.script("return document.querySelector('#status').textContent")
        assert time.monotonic() < deadline, f"{expression}; the page says: {status}"
        time.sleep(0.1)


@contextmanager
def webkit(environment: dict[str, str], folder: Path) -> Generator[WebKit]:
    """A skip where it is not installed."""
    webdriver_path = program("WebKitWebDriver", "webkit2gtk-driver")
    if MINI_BROWSER is None:
        pytest.skip("needs WebKit's MiniBrowser: install the package webkit2gtk-driver")
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.webkitgtk.options import Options
    from selenium.webdriver.webkitgtk.service import Service

    options = Options()
    options.binary_location = str(MINI_BROWSER)
    for flag in (
        "--automation",
        "--enable-media-stream=true",
        "--enable-mock-capture-devices=true",
    ):
        options.add_argument(flag)
    # What makes it start as root and without a graphics card.
    environment = environment | {
        "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",
        "WEBKIT_DISABLE_DMABUF_RENDERER": "1",
    }
    with (folder / "log").open("w") as log:
        service = Service(webdriver_path, log_output=log, env=environment)
        with warnings.catch_warnings():  # selenium's WebKitGTK makes use of what it deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            driver = webdriver.WebKitGTK(options=options, service=service)
        try:
            driver.set_script_timeout(WAIT_S)
            driver.set_window_size(*SIZE)
            yield WebKit(driver)
        finally:
            driver.quit()
