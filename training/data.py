"""Tracked clips: reading, splitting, and the random windows that training sees.

A clip is ``NAME.flac`` (or .ogg, .wav) and ``NAME.npz`` with ``points_q64`` int16
[T, 68, 2] (1/64 pixel of a 256 x 256 crop) and ``fps``; frame k is at k / fps seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from kfusion import emotion
from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW
from kfusion.errors import DataError
from kfusion.landmarks import (
    CROP,
    MIRROR,
    MOUTH,
    NEUTRAL,
    align,
    lip_gap,
    mirrored,
    to_canonical,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """``audio`` (N,) at 16 kHz; ``points`` (T, 68, 2) of the crop at ``fps``, as tracked."""

    name: str
    audio: Array
    points: NDArray[np.float64]
    fps: float

    @cached_property
    def identity(self) -> NDArray[np.float64]:
        """Median of the tenth of the frames with the smallest inner-lip gap, (68, 2)."""
        order = np.argsort(lip_gap(self.points), kind="stable")
        return np.median(self.points[order[: max(1, len(order) // 10)]], axis=0)

    def at_30fps(self) -> NDArray[np.float64]:
        """The track at 30 frames a second, as many as the track's own length has."""
        count = int(np.floor((len(self.points) - 1) / self.fps * FPS)) + 1
        return at_times(self.points, self.fps, np.arange(count) / FPS)


def at_times(track: NDArray[Any], fps: float, seconds: NDArray[Any]) -> NDArray[Any]:
    """Catmull-Rom interpolation of (T, ...) frames at k / fps; held at the ends."""
    at = np.clip(np.asarray(seconds) * fps, 0, len(track) - 1)
    i = np.minimum(np.floor(at).astype(int), len(track) - 2)
    u = (at - i).reshape(-1, *[1] * (track.ndim - 1))
    ends = [2 * track[:1] - track[1:2], track, 2 * track[-1:] - track[-2:-1]]
    wider = np.concatenate(ends)  # one frame more at each end, on the line
    p0, p1, p2, p3 = (wider[i + k] for k in range(4))
    m1, m2 = (p2 - p0) / 2, (p3 - p1) / 2
    return (
        p1 * (2 * u**3 - 3 * u**2 + 1)
        + m1 * (u**3 - 2 * u**2 + u)
        + p2 * (3 * u**2 - 2 * u**3)
        + m2 * (u**3 - u**2)
    )


def is_validation(name: str) -> bool:
    """By clip: the first byte of sha256 of the name is under 26 (a tenth)."""
    return hashlib.sha256(name.encode()).digest()[0] < 26


def read_clip(track: Path) -> Clip:
    """One clip by the path of its .npz."""
    sounds = [track.with_suffix(s) for s in (".flac", ".ogg", ".wav")]
    sound = next((s for s in sounds if s.exists()), None)
    if sound is None:
        raise DataError(f"{track}: no sound beside it; wanted {sounds[0].name}, .ogg or .wav")
    try:
        with np.load(track, allow_pickle=False) as file:
            points = file["points_q64"].astype(np.float64) / 64
            fps = float(file["fps"])
        audio, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    except (OSError, KeyError, ValueError, soundfile.SoundFileError) as error:
        raise DataError(f"{track}: cannot be read ({error})") from None
    if points.ndim != 3 or points.shape[1:] != (68, 2) or len(points) < 2:
        raise DataError(f"{track}: points are {points.shape}; wanted (T, 68, 2)")
    mono = audio.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    return Clip(track.stem, mono, points, fps)


def read_folder(folder: Path, split: str = "all") -> list[Clip]:
    """All clips of a folder, sorted by name; ``split`` is train, validation or all."""
    tracks = sorted(folder.glob("*.npz"))
    if split != "all":
        tracks = [t for t in tracks if is_validation(t.stem) == (split == "validation")]
    if not tracks:
        raise DataError(f"{folder}: no {split} clips (NAME.npz beside NAME.flac)")
    return [read_clip(t) for t in tracks]


def fingerprint(clips: list[Clip]) -> str:
    """sha256 over the clips' names, sound and points, in order."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.name.encode())
        digest.update(np.ascontiguousarray(clip.audio).tobytes())
        digest.update(np.ascontiguousarray(clip.points).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Batch:
    """``audio`` (B, 16000); ``identity`` (B, 68, 2); ``emotion`` (B, 8); ``target`` (B, 30,
    68, 2) displacements in canonical pixels; ``mask`` (B, 30), 0 where the truth is unknown.
    """

    audio: Array
    identity: Array
    emotion: Array
    target: Array
    mask: Array


@dataclass(frozen=True)
class Augmentation:
    """Chances and ranges; all zero gives the clips as they are."""

    mirror: float = 0.5
    speeds: tuple[float, ...] = (1.0, 0.86, 0.93, 1.08, 1.17)
    gain_db: tuple[float, float] = (-22.0, 6.0)
    noise: float = 0.5
    noise_snr_db: tuple[float, float] = (12.0, 45.0)
    silence: float = 0.05  # rows that are silence or faint noise throughout
    cut: float = 0.15  # rows whose sound stops inside the window
    face: float = 0.6  # rows whose identity is another face
    labelled: float = 0.5  # rows with an emotion other than neutral


PLAIN: Final = Augmentation(0, (1.0,), (0, 0), 0, (0, 0), 0, 0, 0, 0)
SETTLE_S: Final = 0.2
"""Seconds that a face takes to come to rest after sound stops."""


class Windows:
    """Random 1-s windows of tracked clips.

    A batch is a function of (seed, step) alone, so that a resumed run sees what an undisturbed
    one sees.
    """

    def __init__(self, clips: list[Clip], augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.fps = [c.fps for c in clips]
        self.sounds = [
            [_sped_up(clip.audio, speed) for speed in augmentation.speeds] for clip in clips
        ]
        self.identities: list[Array] = []
        self.tracks: list[Array] = []
        for clip in clips:
            identity = clip.identity
            canonical = to_canonical(identity)
            moved = canonical.apply(align(clip.points, identity))
            at_rest = canonical.apply(identity)
            self.identities.append(at_rest.astype(np.float32))
            self.tracks.append((moved - at_rest).astype(np.float32))

    def batch(self, rows: int, seed: int, step: int) -> Batch:
        rng = np.random.default_rng([seed, step])
        parts = [self._row(rng) for _ in range(rows)]
        return Batch(*(np.stack(p).astype(np.float32) for p in zip(*parts, strict=True)))

    def _row(self, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        a = self.augmentation
        k = int(rng.integers(len(self.tracks)))
        speed_index = int(rng.integers(len(a.speeds)))
        sound, track = self.sounds[k][speed_index], self.tracks[k]
        speed = a.speeds[speed_index]
        length = len(sound) / SAMPLE_RATE
        start = int(rng.uniform(-0.8, length - 0.2) * SAMPLE_RATE)
        audio = np.zeros(WINDOW, np.float32)
        low, high = max(0, start), min(len(sound), start + WINDOW)
        audio[low - start : high - start] = sound[low:high]

        times = start / SAMPLE_RATE + np.arange(FRAMES) / FPS
        target = at_times(track, self.fps[k], times * speed)
        mask = (times >= 0).astype(np.float32)
        end = min(length, (len(track) - 1) / self.fps[k] / speed)
        if rng.random() < a.cut:
            end = min(end, times[0] + rng.uniform(0.1, 0.95))
            audio[max(0, int((end - start / SAMPLE_RATE) * SAMPLE_RATE)) :] = 0
        target = target * np.clip(1 - (times - end) / SETTLE_S, 0, 1)[:, None, None]
        if rng.random() < a.silence:
            audio, target, mask = np.zeros_like(audio), np.zeros_like(target), np.ones_like(mask)
            if rng.random() < 0.5:
                audio = rng.normal(0, 10 ** rng.uniform(-4.5, -2.6), WINDOW).astype(np.float32)
        audio = self._sound(rng, audio)
        identity = self.identities[k]
        if rng.random() < a.mirror:
            identity = mirrored(identity)
            target = target[:, MIRROR, :] * np.array([-1, 1])
        if rng.random() < a.face:
            identity = another_face(rng, identity)
        label = random_emotion(rng) if rng.random() < a.labelled else emotion.vector({})
        target = target + emotion.displacement(label)
        return audio, identity, label, target, mask

    def _sound(self, rng: np.random.Generator, audio: NDArray[Any]) -> Array:
        a = self.augmentation
        if rng.random() < a.noise:
            level = float(np.sqrt(np.mean(audio**2))) * 10 ** (-rng.uniform(*a.noise_snr_db) / 20)
            audio = audio + coloured_noise(rng, WINDOW) * np.float32(max(level, 1e-5))
        gain = 10 ** (rng.uniform(*a.gain_db) / 20)
        return (audio * gain).astype(np.float32)


def _sped_up(audio: Array, speed: float) -> Array:
    if speed == 1.0:
        return audio
    return soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)


def coloured_noise(rng: np.random.Generator, count: int) -> Array:
    """Noise of unit power whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    shape = np.maximum(np.arange(len(spectrum)), 20) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum * shape, n=count)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def random_emotion(rng: np.random.Generator) -> Array:
    """One emotion at a random weight, or a mixture of several, or one in full."""
    others = [i for i in range(8) if i != emotion.NEUTRAL_INDEX]
    label = np.zeros(8)
    kind = rng.random()
    if kind < 0.3:
        label[rng.choice(others)] = 1.0
    elif kind < 0.7:
        label[rng.choice(others)] = rng.uniform(0, 1)
    else:
        label[others] = rng.dirichlet(np.full(len(others), 0.5)) * rng.uniform(0, 1)
    label[emotion.NEUTRAL_INDEX] = 1 - label.sum()
    return label.astype(np.float32)


def another_face(rng: np.random.Generator, identity: Array) -> Array:
    """The identity with its features moved and stretched, or the canonical face; canonical."""
    face = NEUTRAL.copy() if rng.random() < 0.3 else identity.astype(np.float64)
    centre = face.mean(axis=0)
    face = centre + (face - centre) * rng.uniform(0.88, 1.12, 2)
    for part in (slice(0, 17), slice(17, 22), slice(22, 27), slice(27, 36), slice(36, 42),
                 slice(42, 48), MOUTH):  # fmt: skip
        middle = face[part].mean(axis=0)
        face[part] = middle + (face[part] - middle) * rng.uniform(0.9, 1.1, 2)
        face[part] += rng.normal(0, 1.5, 2)
    return to_canonical(face).apply(np.clip(face, -CROP, 2 * CROP)).astype(np.float32)
