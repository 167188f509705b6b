"""The viewer page in headless Chromium, against a real server process on this machine."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from kfusion.landmarks import INNER_LOWER, NEUTRAL, lip_gap
from kfusion.runtime import Animator
from kfusion.wire import FrameBlock, Silence, encode_frames, parse_client
from tests.page.browser import CHROMEDRIVER, CHROMIUM
from tests.page.page import ROOT, Page, Seen, browser, fresh_page, write_speech

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.keys import Keys

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(CHROMEDRIVER is None, reason="chromedriver is not installed"),
]

_JAW_DROP: Final = np.zeros((68, 2))
_JAW_DROP[list(INNER_LOWER), 1] = 8


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech") / "speech.wav")


@pytest.fixture(scope="module")
def server_url(request: pytest.FixtureRequest) -> str:
    """A real server: with the bundled model where it is there, else without a network."""
    bundled = any((ROOT / "kfusion" / "weights").glob("*.safetensors"))
    running = request.getfixturevalue("server" if bundled else "synthetic_server")
    return f"{running.http}/"


@pytest.fixture(scope="module")
def driver(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("profile")
    flags = ("allow-loopback-in-peer-connection", "window-size=1280,800")
    with browser(speech, profile, *flags) as chrome:
        yield chrome


@pytest.fixture
def page(driver: Any, server_url: str) -> Iterator[Page]:
    with fresh_page(driver, server_url) as page:
        yield page


def test_before_any_sound_the_face_is_the_neutral_one(page: Page) -> None:
    seen = page.watch(0.2)
    np.testing.assert_allclose(seen.points[-1], NEUTRAL, atol=0.05)
    assert page.driver.execute_script("return kfusion.state") == "idle"
    assert not [url for url in page.requested() if url.startswith("ws:")]


def test_the_mouth_moves_while_someone_speaks_and_shuts_when_the_microphone_stops(
    page: Page,
) -> None:
    page.find("#microphone").click()
    page.until_state("live")
    page.until("return kfusion.frame.n > 5")
    seen = page.watch(3.0)
    gap = seen.lip_gap()
    assert np.ptp(gap) > 3
    assert (np.diff(seen.n) >= 0).all()
    assert seen.n[-1] - seen.n[0] == pytest.approx(90, abs=12)
    assert 100 < page.driver.execute_script("return kfusion.stats.latencyMs") < 1500
    assert page.find("#latency").text.endswith("ms")

    if path := os.environ.get("KFUSION_SCREENSHOT"):
        open_wide = float(np.quantile(gap, 0.75))
        page.until(
            f"const p = kfusion.frame.points; return p[2 * 66 + 1] - p[2 * 62 + 1] > {open_wide}"
        )
        page.driver.save_screenshot(path)

    page.find("#microphone").click()
    page.until_state("quiet")
    page.watch(1.5)
    assert abs(page.watch(0.2).lip_gap()[-1]) < 1


def gap_of_the_clip(path: Path, model: Animator) -> NDArray[np.float64]:
    sound, rate = soundfile.read(path, dtype="float32")
    return lip_gap(model.animate(sound, rate))


def likeness(seen: Seen, gap: NDArray[np.float64]) -> float:
    """Correlation of what was drawn with the clip that the microphone says over and over."""
    moving = np.flatnonzero(np.diff(seen.n, prepend=-1) > 0)
    n, drawn = seen.n[moving], seen.lip_gap()[moving]
    at = [np.interp((n + lag) % len(gap), np.arange(len(gap)), gap) for lag in range(len(gap))]
    return max(float(np.corrcoef(drawn, there)[0, 1]) for there in at)


def test_over_webrtc_the_mouth_moves_as_it_does_over_the_socket(
    page: Page, speech: Path, model: Animator
) -> None:
    gap, alike = gap_of_the_clip(speech, model), dict[str, float]()
    for media in ("socket", "webrtc"):
        page.find("#settings summary").click()
        page.find(f'#media option[value="{media}"]').click()
        page.find("#microphone").click()
        page.until_state("live")
        page.until("return kfusion.frame.n > 15")
        session = page.driver.execute_script("return kfusion.session.constructor.name")
        assert session == {"socket": "Session", "webrtc": "Call"}[media]
        seen = page.watch(8.0)
        assert seen.n[-1] - seen.n[0] == pytest.approx(240, abs=20)
        alike[media] = likeness(seen, gap)
        if media == "webrtc" and (path := os.environ.get("KFUSION_WEBRTC_SCREENSHOT")):
            page.driver.save_screenshot(path)
        page.find("#microphone").click()
        page.until_state("quiet")
        page.watch(1.5)
        assert abs(page.watch(0.2).lip_gap()[-1]) < 1
        page.driver.get("about:blank")
        page.open()
    assert alike["socket"] > 0.8
    assert alike["webrtc"] == pytest.approx(alike["socket"], abs=0.05)


def test_the_dial_changes_the_face_even_while_nobody_speaks(page: Page) -> None:
    rest = page.watch(0.1)
    before = page.picture()
    page.find('[data-emotion="happy"]').click()
    page.find("#intensity").send_keys(Keys.END)
    page.watch(1.5)
    happy = page.watch(0.1)
    assert happy.mouth_width()[-1] > rest.mouth_width()[-1] + 3
    assert happy.corner_height()[-1] > rest.corner_height()[-1] + 1.5
    assert page.picture() != before
    assert page.find('[data-emotion="happy"]').get_attribute("aria-pressed") == "true"

    page.find('[data-emotion="neutral"]').click()
    page.watch(1.5)
    np.testing.assert_allclose(page.watch(0.1).mouth_width()[-1], rest.mouth_width()[-1], atol=1)


def test_a_sound_file_plays_in_step_with_the_face(page: Page, speech: Path) -> None:
    page.find("#file").send_keys(str(speech))
    page.until_state("playing")
    page.until("return kfusion.frame.n > 5")
    seen = page.watch(2.5)
    assert np.ptp(seen.lip_gap()) > 3
    assert seen.heard[-1] - seen.heard[0] == pytest.approx(2.5, abs=0.5)
    # Within three frames of the sound, nearly always: the machine may stall for a moment.
    assert np.quantile(np.abs(seen.heard * 30 - seen.n), 0.95) < 3
    page.find("#stop-file").click()
    page.until_state("idle")


def test_a_file_that_is_no_sound_is_said_to_be_none(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("no sound at all")
    page.find("#file").send_keys(str(path))
    page.until_state("unreadable")
    assert "notes.wav" in page.find("#status").text


def test_the_page_reads_the_frames_that_the_wire_writes(page: Page) -> None:
    values = np.random.default_rng(5).normal(128, 40, (3, 136)).astype(np.float32)
    block = FrameBlock("points", 2**40 + 7, 123_456_789, values)
    read = page.with_module(
        "net/protocol.js",
        """
        const { kind, n, count, clock, frames } =
          m.parseFrames(Uint8Array.from(atob(a[0]), (c) => c.charCodeAt(0)).buffer);
        return { kind, n, count, clock, frames: frames.map((f) => Array.from(f)) };
        """,
        base64.b64encode(encode_frames(block)).decode(),
    )
    assert (read["kind"], read["n"], read["count"], read["clock"]) == (
        1,
        block.first,
        3,
        block.clock_us,
    )
    np.testing.assert_array_equal(np.array(read["frames"], dtype=np.float32), values)


def test_the_page_neither_reads_nor_chokes_on_bytes_that_are_no_frames(page: Page) -> None:
    rng = np.random.default_rng(6)
    rubbish = [rng.integers(0, 256, size, dtype=np.uint8).tolist() for size in range(0, 200, 7)]
    truncated = list(encode_frames(FrameBlock("points", 0, 0, np.zeros((2, 136), np.float32))))[:-4]
    read = page.with_module(
        "net/protocol.js",
        "return a[0].map((bytes) => m.parseFrames(Uint8Array.from(bytes).buffer));",
        [*rubbish, truncated],
    )
    assert read == [None] * len(read)


def test_every_message_of_the_page_is_one_that_the_wire_takes(page: Page) -> None:
    built = page.with_module(
        "net/protocol.js",
        """
        const options = { rate: 44100, mode: "live", hop: 3, lookahead: 3, emotion: { sad: 0.4 } };
        return [
          m.start(options), m.start({ ...options, mode: "file" }), m.resume("a token", 17),
          m.emotion({ happy: 0.3, contempt: 0.7 }), m.end(), ...m.silences(150 * 44100, 44100),
        ].map((message) => JSON.stringify(message));
        """,
    )
    messages = [parse_client(text) for text in built]
    assert sum(s.samples for s in messages if isinstance(s, Silence)) == 150 * 44100


@pytest.mark.parametrize("steps", [(0.05,), (0.05, 0.3, 0.01), (0.7,)])
def test_silence_is_owed_for_the_time_that_passed_up_to_its_most(
    page: Page, steps: tuple[float, ...]
) -> None:
    rate, frames = 44100, 6
    paid = page.with_module(
        "net/silence.js",
        """
        const [rate, frames, steps] = a;
        const owed = new m.SilenceOwed(rate, frames);
        owed.heard(9.98, 10);
        const paid = [];
        for (let i = 0, t = 10; t < 14; i++) paid.push([t += steps[i % steps.length], owed.due(t)]);
        return paid;
        """,
        rate,
        frames,
        steps,
    )
    total = 0
    most = frames / 30 + 0.4
    for at, samples in paid:
        assert samples == 0 or at - 10 >= 0.1
        total += samples
        assert total <= round(min(at - 10, most) * rate) + 1
    assert total == round(most * rate)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_microphone_that_loses_samples_leaves_the_face_no_later_for_good(
    page: Page, share: float
) -> None:
    drawn = page.with_module(
        "net/playout.js",
        """
        const [rate, share] = a;
        const clock = new m.CaptureClock(rate);
        const delay = new m.Delay(0.27);
        const drawn = [];
        let end = 0; // of the samples that came
        let newest = -1;
        for (let k = 1; k * 0.02 < 30; k++) {
          const time = k * 0.02 + 0.004 * ((k * 7) % 5); // chunks come up to 16 ms late
          const losing = time > 10 && time < 20;
          end += 0.02 * rate * (losing ? 1 - share : 1);
          delay.moved(clock.heard(end, time));
          while (end >= ((newest + 7) * rate) / 30) { // three frames, of six frames' worth
            newest += 3;
            delay.arrived(time + 0.01 - clock.spoken(newest - 2));
          }
          const position = (time - delay.at(time) - clock.zero) * 30;
          drawn.push([time, newest + 1 - position, time - position / 30]);
        }
        return drawn;
        """,
        48_000,
        share,
    )
    time, ahead, behind = np.array(drawn).T
    settled = (time > 3) & (time < 10)
    lost = share * 10
    assert ahead[settled].min() >= 0, "a frame is there when it is drawn"
    assert ahead[time > 24].min() >= 0
    late = float(behind[settled].mean())
    assert late < 0.35
    assert behind[time > 28].mean() == pytest.approx(late + lost, abs=0.05)


def test_when_frames_stop_coming_the_mouth_eases_shut(page: Page) -> None:
    drawn = page.with_module(
        "net/playout.js",
        """
        const [rest, open, rate] = a.map((x) => (Array.isArray(x) ? Float32Array.from(x) : x));
        const frames = new m.FrameBuffer(rest);
        for (let n = 0; n < 30; n++) if (n < 10 || n > 14) frames.push(n, [open]);
        const out = new Float32Array(136);
        const drawn = [];
        for (let i = 0; i < 3 * rate; i++) {
          frames.pose((30 * i) / rate, i / rate, out);
          drawn.push(Array.from(out));
        }
        return drawn;
        """,
        NEUTRAL.ravel().tolist(),
        (NEUTRAL + _JAW_DROP).ravel().tolist(),
        60,
    )
    points = np.array(drawn).reshape(-1, 68, 2)
    seen = Seen(np.arange(len(points)) / 2.0, points, np.zeros(len(points)))
    gap = seen.lip_gap()
    assert gap[30] == pytest.approx(8, abs=0.01)
    assert gap[45:50] == pytest.approx(8, abs=0.01)  # a hole of five frames is bridged
    assert gap[-1] == pytest.approx(0, abs=0.01)
    assert np.abs(np.diff(gap[60:])).max() < 1  # eased, not dropped


def test_the_dial_is_turned_with_the_keyboard(page: Page) -> None:
    pad = page.find("#pad")
    pad.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert pad.get_attribute("aria-valuetext") == "contempt 100 %"
    assert page.find("#intensity").get_attribute("value") == "100"
    pad.send_keys(Keys.HOME)
    assert page.find('[data-emotion="neutral"]').get_attribute("aria-pressed") == "true"


def test_the_page_fits_a_phone(page: Page) -> None:
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page.watch(0.2)
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
        pressed = page.find("#microphone").rect
        assert pressed["x"] >= 0
        assert pressed["x"] + pressed["width"] <= 360
        assert pressed["height"] >= 44
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
