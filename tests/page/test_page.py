"""The viewer page in headless Chromium, against a real server process on this machine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from kfusion.landmarks import NEUTRAL, lip_gap
from kfusion.runtime import Animator
from tests.page.page import Drawn, Page

Keys: Any = pytest.importorskip(
    "selenium.webdriver.common.keys", reason="needs selenium: pip install selenium"
).Keys


def test_before_any_sound_the_face_is_the_neutral_one(page: Page) -> None:
    drawn = page.watch(0.2)
    np.testing.assert_allclose(drawn.points[-1], NEUTRAL, atol=0.05)
    assert page.script("return kfusion.state") == "idle"
    assert not [url for url in page.requested() if url.startswith("ws:")]


def likeness(drawn: Drawn, gap: NDArray[np.float64]) -> float:
    """Correlation of what was drawn with the clip that the microphone says over and over."""
    moving = np.flatnonzero(np.diff(drawn.n, prepend=-1) > 0)
    n, gaps = drawn.n[moving], drawn.lip_gap()[moving]
    at = [np.interp((n + lag) % len(gap), np.arange(len(gap)), gap) for lag in range(len(gap))]
    return max(float(np.corrcoef(gaps, there)[0, 1]) for there in at)


def test_the_mouth_moves_while_someone_speaks_over_the_socket_and_over_webrtc(
    model_page: Page, speech: Path, model: Animator
) -> None:
    page = model_page
    sound, rate = soundfile.read(speech, dtype="float32")
    gap, alike = lip_gap(model.animate(sound, rate)), dict[str, float]()
    for media in ("socket", "webrtc"):
        page.find("#settings summary").click()
        page.find(f'#media option[value="{media}"]').click()
        page.find("#microphone").click()
        page.until_state("live")
        page.until("kfusion.frame.n > 15")
        session = page.script("return kfusion.session.constructor.name")
        assert session == {"socket": "Session", "webrtc": "WebRtcSession"}[media]
        drawn = page.watch(8.0)
        assert drawn.n[-1] - drawn.n[0] == pytest.approx(240, abs=20)
        assert (np.diff(drawn.n) >= 0).all()
        assert np.ptp(drawn.lip_gap()) > 3
        assert 100 < page.script("return kfusion.stats.latencyMs") < 1500
        assert page.find("#latency").text.endswith("ms")
        alike[media] = likeness(drawn, gap)
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
    page.until("kfusion.frame.n > 5")
    drawn = page.watch(2.5)
    assert np.ptp(drawn.lip_gap()) > 3
    assert drawn.played[-1] - drawn.played[0] == pytest.approx(2.5, abs=0.5)
    # Within three frames of the sound, nearly always: the machine may stall for a moment.
    assert np.quantile(np.abs(drawn.played * 30 - drawn.n), 0.95) < 3
    page.find("#stop-file").click()
    page.until_state("idle")


def test_a_file_that_is_no_sound_is_said_to_be_none(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("no sound at all")
    page.find("#file").send_keys(str(path))
    page.until_state("unreadable")
    assert "notes.wav" in page.find("#status").text


def test_the_dial_is_turned_with_the_keyboard(page: Page) -> None:
    pad = page.find("#pad")
    pad.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert pad.get_attribute("aria-valuetext") == "contempt 100 %"
    assert page.find("#intensity").get_attribute("value") == "100"
    pad.send_keys(Keys.HOME)
    assert page.find('[data-emotion="neutral"]').get_attribute("aria-pressed") == "true"
