"""The viewer page in headless Chromium, as its user sees and uses it."""

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from kfusion.landmarks import lip_gap
from tests.conftest import DATA, voice
from tests.page.browser import WAIT_S

ROOT: Final = Path(__file__).parents[2]
SPEECH: Final = DATA / "grid_others"
RATE: Final = 16000
PHONE: Final = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

# Collects what the page draws for some seconds, frame by frame of the screen.
WATCH: Final = """
const [seconds, done] = arguments;
const drawn = [];
const until = performance.now() + 1000 * seconds;
const next = () => {
  const { frame, state, seconds } = kfusion;
  if (frame) drawn.push({ n: frame.n, state, played: seconds, points: Array.from(frame.points) });
  if (performance.now() < until) requestAnimationFrame(next);
  else done(drawn);
};
next();
"""


class Drawn(NamedTuple):
    """What was drawn: frame numbers (T,), points (T, 68, 2), and the sound's place (T,) in s."""

    n: NDArray[np.float64]
    points: NDArray[np.float64]
    played: NDArray[np.float64]

    def lip_gap(self) -> NDArray[np.float64]:
        return lip_gap(self.points)

    def mouth_width(self) -> NDArray[np.float64]:
        return self.points[:, 54, 0] - self.points[:, 48, 0]

    def corner_height(self) -> NDArray[np.float64]:
        """Of the corners of the mouth above the middle of the lower lip's edge, in pixels."""
        return self.points[:, 57, 1] - self.points[:, [48, 54], 1].mean(axis=1)


class Page:
    """The page in a tab."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self) -> None:
        self.driver.get(self.url)
        self.until("globalThis.kfusion?.frame != null")

    def until(self, expression: str, seconds: float = WAIT_S) -> None:
        """Waits, with an end, until this is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.script(f"return {expression}"):
            text = self.script("return document.querySelector('#status').textContent")
            assert time.monotonic() < deadline, f"{expression}; the page says: {text}"
            self.driver.execute_async_script("requestAnimationFrame(arguments[0])")

    def until_state(self, state: str) -> None:
        self.until(f"kfusion.state === {json.dumps(state)}")

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def script(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @contextmanager
    def screen(self, size: dict[str, Any] | None, scheme: str = "light") -> Generator[None]:
        """Another screen for a while, and the light or the dark scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if size is not None:
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            self.watch(0.2)
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def watch(self, seconds: float) -> Drawn:
        drawn = self.driver.execute_async_script(WATCH, seconds)
        return Drawn(
            np.array([s["n"] for s in drawn], dtype=np.float64),
            np.array([s["points"] for s in drawn], dtype=np.float64).reshape(-1, 68, 2),
            np.array([np.nan if s["played"] is None else s["played"] for s in drawn]),
        )

    def run(self, body: str, *arguments: Any) -> Any:
        """What an async function with this body returns in the page; ``a`` are the arguments."""
        script = f"""
            const [a, done] = arguments;
            (async () => {{ {body} }})().then(
              (value) => done({{ value }}), (error) => done({{ error: String(error) }}));
        """
        answer = self.driver.execute_async_script(script, arguments)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def picture(self) -> str:
        return str(
            self.driver.execute_script("return document.querySelector('canvas').toDataURL()")
        )

    def complaints(self) -> list[str]:
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def requested(self) -> set[str]:
        """Every address that was asked for since the last call."""
        urls: set[str] = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            params = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                urls.add(params["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                urls.add(params["url"])
        return urls


def write_speech(path: Path) -> Path:
    """A 16-bit wav of a few seconds: real speakers where the data is, else a made voice."""
    clips = [np.asarray(soundfile.read(p)[0]) for p in sorted(SPEECH.glob("*.flac"))[:2]]
    sound = np.concatenate(clips) if clips else voice(6.0, RATE)
    soundfile.write(path, 0.8 * sound / np.abs(sound).max(), RATE, subtype="PCM_16")
    return path


NOTED: Final = "GPU stall due to ReadPixels"
"""What a driver says of a portrait that is read back, without a graphics card."""


@contextmanager
def fresh_page(driver: Any, url: str) -> Generator[Page]:
    """The page in a tab of its own, which must log no warning and ask no other host."""
    before = driver.current_window_handle
    driver.switch_to.new_window("tab")
    tab = driver.current_window_handle
    driver.switch_to.window(before)
    driver.close()
    driver.switch_to.window(tab)
    page = Page(driver, url)
    page.complaints()
    page.requested()
    page.open()
    yield page
    assert [message for message in page.complaints() if NOTED not in message] == []
    own = (url, url.replace("http:", "ws:"), "data:", "blob:", "about:")
    assert [address for address in page.requested() if not address.startswith(own)] == []
