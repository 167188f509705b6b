"""What the page records in headless Chromium: the video of the face with its sound, the frames."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.landmarks import lip_gap
from kfusion.runtime import Animator, SyntheticEngine
from tests.conftest import RunningServer
from tests.page.page import ROOT, Page, fresh_page

RATE: Final = 16_000
FPS: Final = 30
IN_STEP: Final = 3  # frames
TRIES: Final = 3  # the machine may stall for a moment
PORTRAITS: Final = ROOT / "client" / "viewer" / "portraits"

# What a link would save, as base64.
SAVED: Final = """
const [name, done] = arguments;
const link = document.querySelector(`#takes a[download$="${name}"]`);
if (!link) done(null);
else fetch(link.href).then((answer) => answer.blob()).then((blob) => {
  const reader = new FileReader();
  reader.onload = () => done([link.download, reader.result.split("base64,")[1] ?? ""]);
  reader.readAsDataURL(blob);
});
"""


class Frames(NamedTuple):
    """Lines of a JSONL: numbers (T,), times (T,) in s, points (T, 68, 2)."""

    n: NDArray[np.int64]
    t: NDArray[np.float64]
    points: NDArray[np.float64]

    def gap(self) -> NDArray[np.float64]:
        return lip_gap(self.points)


class Video(NamedTuple):
    """Pictures (T, side, side) in grey and their times (T,) in s; sound (N,) at 16 kHz."""

    pictures: NDArray[np.float64]
    t: NDArray[np.float64]
    sound: NDArray[np.float32]


@pytest.fixture
def page(driver: Any, synthetic_server: RunningServer) -> Iterator[Page]:
    """In a small window: the video is squeezed without a graphics card here."""
    size = driver.get_window_size()
    driver.set_window_size(840, 420)
    with fresh_page(driver, f"{synthetic_server.http}/") as page:
        yield page
    driver.set_window_size(size["width"], size["height"])


def saved(page: Page, ending: str) -> tuple[str, bytes]:
    found = page.driver.execute_async_script(SAVED, ending)
    assert found is not None, f"no link to a .{ending}"
    return found[0], base64.b64decode(found[1])


def read_frames(data: bytes) -> Frames:
    rows = [json.loads(line) for line in data.decode().splitlines()]
    assert all(set(row) == {"n", "t", "points", "emotion"} for row in rows)
    return Frames(
        np.array([row["n"] for row in rows]),
        np.array([row["t"] for row in rows]),
        np.array([row["points"] for row in rows], dtype=np.float64).reshape(-1, 68, 2),
    )


def read_video(data: bytes) -> Video:
    av: Any = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(io.BytesIO(data)) as container:
        length = container.duration / av.time_base  # a player can show it
        pictures = [(f.time, f.to_ndarray(format="gray")) for f in container.decode(video=0)]
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        to_mono = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        parts = [
            out.to_ndarray().ravel()
            for frame in container.decode(audio=0)
            for out in to_mono.resample(frame)
        ]
    times = np.array([time for time, _ in pictures])
    assert length == pytest.approx(times[-1], abs=0.5)
    return Video(np.array([p for _, p in pictures], np.float64), times, np.concatenate(parts))


def mouth_change(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each picture stands on the line along which the mouth changes most; (T,)."""
    side = pictures.shape[1]
    mouth = pictures[:, int(0.55 * side) : int(0.85 * side) : 2, int(0.3 * side) : int(0.7 * side)]
    flat = mouth.reshape(len(mouth), -1)
    flat = flat - flat.mean(axis=0)
    return np.linalg.eigh(flat @ flat.T)[1][:, -1]


def best_lag(a: NDArray[np.float64], b: NDArray[np.float64], most: int = 15) -> tuple[int, float]:
    """By how many frames ``b``, of either sign, comes after ``a``, and how alike they are then."""
    alike = dict[int, float]()
    for lag in range(-most, most + 1):
        x, y = a[max(0, -lag) :], b[max(0, lag) :]
        size = min(len(x), len(y))
        alike[lag] = abs(float(np.corrcoef(x[:size], y[:size])[0, 1]))
    lag = max(alike, key=lambda k: alike[k])
    return lag, alike[lag]


def record(page: Page, seconds: float) -> None:
    page.find("#record").click()
    assert page.find("#record-words").text == "Stop"
    page.watch(seconds)
    page.until(f"kfusion.recording.seconds >= {seconds}")
    page.find("#record").click()
    page.until("!document.querySelector('#takes').hidden")


def check_in_step(page: Page) -> tuple[Frames, int]:
    """Picture, sound and frames of what was recorded say the same; the frames, and by how many
    of them the picture comes after the sound."""
    name, data = saved(page, "jsonl")
    frames = read_frames(data)
    assert re.fullmatch(r"kfusion-\d{4}-\d\d-\d\d-\d{6}\.jsonl", name)
    np.testing.assert_array_equal(frames.t, frames.n / FPS)
    assert (np.diff(frames.n) > 0).all()
    assert np.ptp(frames.gap()) > 3

    name, data = saved(page, "webm")
    assert re.fullmatch(r"kfusion-\d{4}-\d\d-\d\d-\d{6}\.webm", name)
    video = read_video(data)
    assert video.pictures.shape[1] == video.pictures.shape[2]
    assert video.sound.std() > 0.01

    clock = np.arange(frames.n[0], frames.n[-1] + 1) / FPS
    gap = np.interp(clock, frames.t, frames.gap())
    heard = Animator(SyntheticEngine()).animate(video.sound, RATE)  # as the server heard it
    said = lip_gap(heard)
    said = np.interp(clock, np.arange(len(said)) / FPS, said)
    drawn = np.interp(clock, video.t, mouth_change(video.pictures))
    sound_lag, sound_alike = best_lag(gap, said)
    picture_lag, picture_alike = best_lag(gap, drawn)
    print(f"after the frames: sound {sound_lag} ({sound_alike:.2f}), pictures {picture_lag} "
          f"({picture_alike:.2f}), {len(video.pictures)} pictures of {len(clock)}")  # fmt: skip
    assert sound_alike > 0.5
    assert picture_alike > 0.5
    return frames, picture_lag - sound_lag


def check_a_take_in_step(page: Page, take: Callable[[], None]) -> Frames:
    """The frames of the first of some takes whose picture is in step with its sound."""
    apart: list[int] = []
    for _ in range(TRIES):
        take()
        frames, lag = check_in_step(page)
        if abs(lag) <= IN_STEP:
            return frames
        apart.append(lag)
    raise AssertionError(apart)


def test_a_recording_of_the_microphone_has_lips_and_voice_in_step(page: Page) -> None:
    page.driver.get(f"{page.url}?life=0&emotion=happy:0.7,surprised:0.2")
    page.until("kfusion.session?.open === true")
    page.find("#microphone").click()
    page.until_state("live")
    page.until("kfusion.frame.n > 60")
    frames = check_a_take_in_step(page, lambda: record(page, 6.0))
    assert re.fullmatch(r"Recorded 0:\d\d\.", page.find("#takes-words").text)
    assert len(frames.n) > 4 * FPS
    _, data = saved(page, "jsonl")
    assert json.loads(data.splitlines()[-1])["emotion"] == {"surprised": 0.2, "happy": 0.7}


def test_a_recording_of_a_sound_file_has_lips_and_voice_in_step(page: Page, speech: Path) -> None:
    page.driver.get(f"{page.url}?life=0")
    page.until("globalThis.kfusion?.frame != null")

    def take() -> None:
        page.find("#record").click()  # before it plays: the sound joins in
        page.find("#file").send_keys(str(speech))
        page.until_state("playing")
        page.watch(4.0)
        page.find("#record").click()
        page.until("!document.querySelector('#takes').hidden")

    check_a_take_in_step(page, take)


@pytest.mark.parametrize("size", [(834, 1194), (1280, 620)], ids=["tall", "wide"])
def test_a_recording_of_a_portrait_shows_all_of_it(page: Page, size: tuple[int, int]) -> None:
    image: Any = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    page.driver.get(f"{page.url}?life=0&look=mira")
    page.until("globalThis.kfusion?.look.name === 'mira'")
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    with page.screen(screen):
        record(page, 1.0)
        shown = page.script("const { left, top, right, bottom } = kfusion.look.drawer.frame; "
                            "return [left, top, right, bottom]")  # fmt: skip
    film = image.fromarray(read_video(saved(page, "webm")[1]).pictures[-1].astype(np.uint8))
    photo = image.open(PORTRAITS / "mira.webp").convert("L")
    points = np.array(json.loads((PORTRAITS / "portraits.json").read_text())[0]["points"])
    corner, far = np.reshape(shown, (2, 2))
    scale = film.width / max(far - corner)
    for part in (slice(36, 48), slice(48, 68), slice(68)):  # the eyes, the mouth, all
        box = np.array([points[part].min(axis=0) - 20, points[part].max(axis=0) + 20])
        filmed = film.width / 2 + (box - (corner + far) / 2) * scale
        assert (filmed > 0).all() and (filmed < film.width).all()
        seen, wanted = (
            np.asarray(of.resize((40, 40), box=tuple(at.ravel())), np.float64).ravel()
            for of, at in ((film, filmed), (photo, box))
        )
        assert np.corrcoef(seen, wanted)[0, 1] > 0.9


def test_a_recording_ends_by_itself_and_says_so(page: Page) -> None:
    assert page.script("return kfusion.recording.mostSeconds") == 600
    page.script("kfusion.recording.mostSeconds = 1.2")
    page.find("#record").click()
    page.until("document.querySelector('#record-time').textContent === '0:01'")
    page.until("!document.querySelector('#takes').hidden")
    told = page.find("#takes-words").text
    assert told.startswith("Stopped at 0:01: a page can keep no more.")
    assert told.endswith("Nothing spoke, so there are no frames.")
    assert page.find("#record-words").text == "Record"
    assert saved(page, "webm")[1][:4] == b"\x1aE\xdf\xa3"
    assert page.driver.execute_async_script(SAVED, "jsonl") is None


def test_a_second_recording_takes_the_place_of_the_first(page: Page) -> None:
    record(page, 0.5)
    first = page.script("return document.querySelector('#takes a').href")
    record(page, 0.5)
    links = page.script("return [...document.querySelectorAll('#takes a')].map((a) => a.href)")
    assert len(links) == 1 and first not in links
    gone = page.driver.execute_async_script(
        "fetch(arguments[0]).then(() => arguments[1](false), () => arguments[1](true))", first
    )
    assert gone is True
    page.complaints()  # the browser's own, about that
