"""A clip of tracked speech, and how ready-made tracks are read.

A ready-made track is ``NAME.flac`` (or .ogg, .wav) and ``NAME.npz`` with ``points_q64`` int16
[T, 68, 2] (1/64 pixel of a 256 x 256 crop) and ``fps``; frame k is at k / fps seconds and sound
and picture start together.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL, RIGID, align, fit_similarity, lip_gap
from training.corpus.splits import split_of_clip

Samples = NDArray[np.float32]
Points = NDArray[np.float64]

SOUNDS: Final = (".flac", ".ogg", ".wav")


def face_at_rest(points: Points) -> Points:
    """The face of frames (T, 68, 2) with its lips shut, (68, 2) in their pixels.

    Frames are aligned on the rigid points first, so that a head that moves does not smear the face.
    The shape is the median of the tenth of the frames with the smallest inner-lip gap, placed where
    these frames' rigid points have their median.
    """
    aligned, rigid = align(points, NEUTRAL), list(RIGID)
    order = np.argsort(lip_gap(aligned), kind="stable")
    chosen = order[: max(1, len(order) // 10)]
    shape = np.median(aligned[chosen], axis=0)
    place = np.median(points[chosen][:, rigid], axis=0)
    return fit_similarity(shape[rigid], place).apply(shape)


@dataclass(frozen=True)
class Clip:
    """``audio`` (N,) at 16 kHz in -1..1; ``points`` (T, 68, 2) at 30 fps in pixels of a 256 x 256
    crop; ``emotion`` is one of :data:`kfusion.emotion.EMOTIONS`, or None where it is not known;
    ``rest`` (68, 2), the face at rest as found in the source's own frames, and ``phones`` [steps],
    a track of :mod:`training.phones`, where they are known; ``neutral`` (68, 2) in the same pixels,
    the face at rest of the speaker's neutral clips, where this one is not neutral.
    """

    name: str
    audio: Samples
    points: Points
    speaker: str = ""
    emotion: str | None = None
    level: int | None = None
    rest: Points | None = None
    phones: NDArray[np.uint8] | None = None
    neutral: Points | None = None

    @cached_property
    def identity(self) -> Points:
        """:func:`face_at_rest` of the source's frames, or of those at 30 fps, (68, 2)."""
        return face_at_rest(self.points) if self.rest is None else self.rest


def at_times(track: NDArray[Any], times: NDArray[Any], new_times: NDArray[Any]) -> NDArray[Any]:
    """(T, ...) frames at rising ``times`` (T,) seconds -> frames at ``new_times`` (K,) seconds.

    Cubic Hermite interpolation with Catmull-Rom tangents, held at the ends.
    """
    if len(track) == 1:
        return np.repeat(track, len(new_times), axis=0)
    last = len(track) - 1
    at = np.minimum(np.maximum(new_times, times[0]), times[-1])
    i = np.minimum(np.searchsorted(times[1:], at, side="right"), last - 1)
    before, after = np.maximum(i - 1, 0), np.minimum(i + 2, last)
    step = times[i + 1] - times[i]
    u = (at - times[i]) / step
    # A tangent is the slope from neighbour to neighbour; at an end, from the end's own frame.
    left = u * (u - 1) ** 2 * step / (times[i + 1] - times[before])
    right = u**2 * (u - 1) * step / (times[after] - times[i])
    rise = u**2 * (3 - 2 * u)
    rows = track.reshape(len(track), -1)
    out = rows.take(i, 0) * (1 - rise - right)[:, None]
    for k, weights in ((before, -left), (i + 1, rise + left), (after, right)):
        out += rows.take(k, 0) * weights[:, None]
    return out.reshape(len(new_times), *track.shape[1:])


def at_30fps(track: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Frames at rising ``times`` (s) -> frames at 0, 1/30, 2/30 ... up to the last one's time."""
    count = int(np.floor(times[-1] * FPS + 1e-6)) + 1
    return at_times(track, times, np.arange(count) / FPS)


def sound_beside(track: Path) -> Path:
    """The sound file beside a track, or :class:`DataError`."""
    sounds = [track.with_suffix(s) for s in SOUNDS]
    sound = next((s for s in sounds if s.exists()), None)
    if sound is None:
        raise DataError(f"{track}: no sound beside it; wanted {sounds[0].name}, .ogg or .wav")
    return sound


def read_points(track: Path) -> tuple[Points, float]:
    """The faces of a ready-made track (T, 68, 2) in pixels, at the source's own rate, and it."""
    try:
        with np.load(track, allow_pickle=False) as file:
            points = file["points_q64"].astype(np.float64) / 64
            fps = float(file["fps"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{track}: cannot be read ({error})") from None
    if points.ndim != 3 or points.shape[1:] != (68, 2) or len(points) < 2:
        raise DataError(f"{track}: points are {points.shape}; wanted (T, 68, 2)")
    if not 1 <= fps <= 1000:
        raise DataError(f"{track}: fps is {fps}; wanted 1 to 1000")
    return points, fps


def read_sound(path: Path) -> Samples:
    """A sound file as 16 kHz mono in -1..1, or :class:`DataError`."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    mono = audio.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    return mono


def read_track(track: Path) -> Clip:
    """One ready-made track by the path of its .npz, resampled to 30 fps and 16 kHz mono."""
    points, fps = read_points(track)
    times = np.arange(len(points)) / fps
    sound = read_sound(sound_beside(track))
    return Clip(track.stem, sound, at_30fps(points, times), rest=face_at_rest(points))


def read_folder(folder: Path, split: str = "all") -> list[Clip]:
    """The ready-made tracks of a folder, by name; ``split`` is by clip, as of one speaker."""
    tracks = sorted(folder.glob("*.npz"))
    if split != "all":
        tracks = [t for t in tracks if split_of_clip(t.stem) == split]
    if not tracks:
        raise DataError(f"{folder}: no {split} clips (NAME.npz beside NAME.flac)")
    return [read_track(t) for t in tracks]
