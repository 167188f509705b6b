import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kfusion.errors import DataError
from tests.training.corpus.drawn_video import (
    HEIGHT,
    WIDTH,
    click_time,
    draw,
    write_clip,
    write_sound,
)
from training.corpus.video import crop, first_time, has_sound, pictures, sample_pictures, sound


def test_times_are_those_of_the_file_and_start_at_0(tmp_path: Path) -> None:
    irregular = [0.0, 0.033, 0.1, 0.2, 0.21, 0.4, 0.401, 0.9]
    path = tmp_path / "clip.mkv"
    write_clip(path, times=irregular, video_from=0.5, seconds=1)
    assert [p.time for p in pictures(path)] == pytest.approx(irregular, abs=1e-6)
    assert first_time(path) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mpg", ".flv"])
@pytest.mark.parametrize(
    ("audio_from", "video_from"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.24)], ids=str
)
def test_sound_is_placed_by_the_time_of_the_first_picture(
    tmp_path: Path, suffix: str, audio_from: float, video_from: float
) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, audio_from=audio_from, video_from=video_from, click=0.7, seconds=1)
    audio = sound(path, first_time(path))
    assert audio.dtype == np.float32 and 0.5 < np.abs(audio).max() <= 1
    assert click_time(audio) == pytest.approx(0.7, abs=0.003)


@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_sound_of_its_own_file_starts_with_its_first_sample(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"voice{suffix}"
    write_sound(path, 1.0, click=0.3)
    audio = sound(path)
    assert len(audio) == pytest.approx(16_000, abs=700)
    assert click_time(audio) == pytest.approx(0.3, abs=0.001)


def test_pictures_spread_over_a_clip_are_few_small_and_even(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, fps=Fraction(25), seconds=3, audio_from=None)
    some, times = sample_pictures(path, 5, longest=80)
    assert 5 <= len(some) < 10 and len(times) == 75
    assert all(p.shape == (60, 80, 3) and shrink == 0.5 for p, shrink in some)
    assert times == pytest.approx([n / 25 for n in range(75)], abs=1e-6)


def test_a_crop_is_the_square_of_the_picture_with_black_around() -> None:
    picture = draw(5.0)
    same = crop(picture, (0, 0, HEIGHT), HEIGHT)
    assert np.abs(same.astype(int) - picture[:, :HEIGHT]).max() <= 1
    around = crop(picture, (-20, -40, 200), 200)
    assert np.abs(around[40:160, 20:180].astype(int) - picture).max() <= 1
    assert not around[:40].any() and not around[160:].any() and not around[:, :20].any()
    assert crop(picture, (30, 0, 100)).shape == (256, 256, 3)
    assert not crop(picture, (WIDTH + 5, 0, 50)).any()


def test_a_clip_turned_on_its_side_by_its_file_is_read_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write_clip(path, seconds=0.4, audio_from=None)
    upright = next(pictures(path)).pixels()[0]
    one = 1 << 16
    kept = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, HEIGHT << 16, 0, 1 << 30)  # 90 degrees right
    data = path.read_bytes()
    at = data.index(kept, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    shown = next(pictures(path)).pixels()[0]
    assert shown.shape == (WIDTH, HEIGHT, 3)
    assert np.array_equal(shown, np.rot90(upright, -1))


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2)], ids=str)
def test_pixels_that_are_not_square_are_read_as_they_are_shown(
    tmp_path: Path, aspect: Fraction
) -> None:
    narrow, square = tmp_path / "narrow.mp4", tmp_path / "square.mp4"
    write_clip(narrow, seconds=0.2, audio_from=None, aspect=aspect)
    write_clip(square, seconds=0.2, audio_from=None)
    wanted = next(pictures(square)).pixels()[0].astype(int)
    shown = next(pictures(narrow)).pixels()[0]
    assert shown.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(shown - wanted).mean() < 4
    ((small, shrink), *_), _ = sample_pictures(narrow, 5, longest=80)
    assert small.shape == (60, 80, 3) and shrink == 0.5


def test_pixels_of_an_absurd_shape_are_told(tmp_path: Path) -> None:
    path = tmp_path / "thread.mkv"
    write_clip(path, seconds=0.2, audio_from=None, aspect=Fraction(20))
    with pytest.raises(DataError, match=r"thread.mkv: its pixels are 20 times as wide as high"):
        list(pictures(path))


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    noise, silent, spoken = tmp_path / "noise.mp4", tmp_path / "silent.mp4", tmp_path / "v.m4a"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    write_clip(silent, seconds=0.4, audio_from=None)
    write_sound(spoken, 0.5, click=0.1)
    with pytest.raises(DataError, match=r"noise.mp4: cannot be read .Invalid data"):
        list(pictures(noise))
    assert not has_sound(silent) and has_sound(spoken)
    with pytest.raises(DataError, match=r"silent.mp4: has no sound"):
        sound(silent)
    with pytest.raises(DataError, match=r"v.m4a: has no pictures"):
        list(pictures(spoken))
    with pytest.raises(DataError, match=r"gone.mp4: cannot be read .No such file"):
        first_time(tmp_path / "gone.mp4")


@pytest.mark.parametrize("index", ["last", "first"])
def test_a_clip_cut_off_half_way_is_told(tmp_path: Path, index: str) -> None:
    whole, half = tmp_path / "whole.mp4", tmp_path / "half.mp4"
    options = {"movflags": "faststart"} if index == "first" else None
    write_clip(whole, seconds=2, audio_from=None, options=options)
    data = whole.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"half.mp4: (cannot be read|its pictures end at)"):
        list(pictures(half))


def test_pictures_whose_times_go_backwards_are_told(tmp_path: Path) -> None:
    path = tmp_path / "reordered.avi"
    write_clip(path, seconds=2, audio_from=None, codec="libx264")  # AVI has no place for its order
    with pytest.raises(DataError, match=r"the times of its pictures go backwards .* of 50"):
        list(pictures(path))


def test_a_long_pause_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pause.mkv"
    write_clip(path, times=[0, 0.04, 0.08, 30.0], seconds=1, audio_from=None)
    with pytest.raises(DataError, match=r"pause.mkv: it has no picture for 29.9 s"):
        list(pictures(path))
