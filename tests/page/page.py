"""The viewer page in headless Chromium, as one who sits before it sees and uses it."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from kfusion.landmarks import lip_gap
from tests.conftest import DATA, voice
from tests.page.browser import WAIT_S, chromium

ROOT: Final = Path(__file__).parents[2]
SPEECH: Final = DATA / "grid_others"
RATE: Final = 16000
PHONE: Final = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

# Collects what the page draws for some seconds, frame by frame of the screen.
WATCH: Final = """
const [seconds, done] = arguments;
const seen = [];
const until = performance.now() + 1000 * seconds;
const look = () => {
  const { frame, state, seconds } = kfusion;
  if (frame) seen.push({ n: frame.n, state, heard: seconds, points: Array.from(frame.points) });
  if (performance.now() < until) requestAnimationFrame(look);
  else done(seen);
};
look();
"""


class Seen(NamedTuple):
    """What was drawn: frame numbers (T,), points (T, 68, 2), and the sound's place (T,) in s."""

    n: NDArray[np.float64]
    points: NDArray[np.float64]
    heard: NDArray[np.float64]

    def lip_gap(self) -> NDArray[np.float64]:
        return lip_gap(self.points)

    def mouth_width(self) -> NDArray[np.float64]:
        return self.points[:, 54, 0] - self.points[:, 48, 0]

    def corner_height(self) -> NDArray[np.float64]:
        """Of the corners of the mouth above the middle of the lower lip's edge, in pixels."""
        return self.points[:, 57, 1] - self.points[:, [48, 54], 1].mean(axis=1)


class Page:
    """The page, as one who sits before it sees and uses it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self) -> None:
        self.driver.get(self.url)
        self.until("return globalThis.kfusion?.frame != null")

    def until(self, script: str) -> None:
        """Waits, with an end, until the script says true."""
        deadline = time.monotonic() + WAIT_S
        while not self.driver.execute_script(script):
            if time.monotonic() > deadline:
                told = self.driver.execute_script("return document.body.innerText")
                raise AssertionError(f"not within {WAIT_S:.0f} s: {script}\nthe page says: {told}")
            self.driver.execute_async_script("requestAnimationFrame(arguments[0])")

    def until_state(self, state: str) -> None:
        self.until(f"return kfusion.state === {json.dumps(state)}")

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

    def watch(self, seconds: float) -> Seen:
        seen = self.driver.execute_async_script(WATCH, seconds)
        return Seen(
            np.array([s["n"] for s in seen], dtype=np.float64),
            np.array([s["points"] for s in seen], dtype=np.float64).reshape(-1, 68, 2),
            np.array([np.nan if s["heard"] is None else s["heard"] for s in seen]),
        )

    def with_module(self, name: str, body: str, *arguments: Any) -> Any:
        """What ``body`` returns, given one of the page's modules as ``m`` and arguments ``a``."""
        script = f"""
            const [url, a, done] = arguments;
            import(url).then(async (m) => done({{ value: await (async () => {{ {body} }})() }}))
              .catch((error) => done({{ error: String(error) }}));
        """
        answer = self.driver.execute_async_script(script, self.url + name, arguments)
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


def browser(speech: Path, profile: Path, *flags: str) -> AbstractContextManager[Any]:
    """Chromium without a graphics card, which keeps what it was asked for."""
    logs = ("browser", "performance")
    return chromium(speech, profile, "disable-gpu", "disable-quic", *flags, logs=logs)


@contextmanager
def fresh_page(driver: Any, url: str, noted: str = "\0") -> Generator[Page]:
    """The page, freshly opened; afterwards nothing was complained of, but for what has ``noted`` in
    it, and nothing left the host.
    """
    page = Page(driver, url)
    driver.get("about:blank")
    page.complaints()
    page.requested()
    page.open()
    yield page
    assert [told for told in page.complaints() if noted not in told] == []
    own = (url, url.replace("http:", "ws:"), "data:", "blob:", "about:")
    assert [asked for asked in page.requested() if not asked.startswith(own)] == []
