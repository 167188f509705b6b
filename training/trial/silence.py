"""What a model does where nobody speaks: silence, noise, music."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.landmarks import MOUTH, NEUTRAL, lip_gap
from training.corpus.clips import Clip, Samples
from training.trial import perturb
from training.trial.model import Subject
from training.trial.report import Check, Lines, Section

Frames = NDArray[np.float64]

CUTS: Final = (0.9, 1.3, 1.7)
"""Seconds at which GRID's speakers are in the middle of words."""
CLOSES_WITHIN: Final = 0.4
AFTER: Final = 1.5
"""Seconds of digital silence that are appended."""
REST_PX: Final = 1.0
NOISE_PX: Final = 1.5
LAW_CLIPS: Final = 8
NOISE_FACES: Final = 2


def off_rest(frames: Frames, identity: Frames) -> Frames:
    """How far the inner-lip gap is from the identity's, (T,), pixels."""
    return np.abs(lip_gap(frames) - lip_gap(identity))


def silence(subject: Subject) -> Section:
    section = Section(
        "silence",
        f"Distance of the inner-lip gap from the identity's, px. Law 6: {LAW_CLIPS} grid_s1 "
        f"validation clips, whole or cut in the middle of words (at {CUTS} s), then {AFTER} s of "
        "zeros; from 400 ms after the sound stops. Jitter is the standard deviation over time of "
        "the mouth's points then. Noises for 10 s, each on the canonical face and on "
        f"{NOISE_FACES} speakers' faces: white noise and hum (50 Hz and harmonics) at -30 dBFS; "
        "three pieces of synthesised instrumental music (plucked strings, struck bars, bass, "
        "drums) at -18 dBFS.",
    )
    clips = subject.some(LAW_CLIPS)
    after = {
        "after a clip's end": [after_speech(subject, c, len(c.audio)) for c in clips],
        "after a cut in mid-word": [
            after_speech(subject, c, round(cut * SAMPLE_RATE)) for c in clips for cut in CUTS
        ],
    }
    rows: list[list[str | float]] = []
    for what, quiet in after.items():
        apart = np.concatenate([off_rest(f, c) for f, c in quiet])
        section.checks.append(Check(f"{what}, max", float(apart.max()), high=REST_PX, unit="px"))
        jitter = [jitter_of(f) for f, _ in quiet]
        means = float(np.mean([j.mean() for j in jitter]))
        rows.append([what, means, float(max(j.max() for j in jitter))])
    head = ["jitter in silence, px", "mean of the points", "the most of a point of any clip"]
    noise_rows: list[list[str | float]] = []
    faces = [NEUTRAL, *(c.identity for c in clips[:NOISE_FACES])]
    for what, sounds in noises().items():
        said = [off_rest(subject.said(s, face), face) for s in sounds for face in faces]
        apart = np.concatenate(said)
        section.checks.append(Check(f"{what}, max", float(apart.max()), high=NOISE_PX, unit="px"))
        over = float((apart > NOISE_PX).mean())
        noise_rows.append([what, float(np.percentile(apart, 95)), float(apart.max()), over])
    shares = ["sound", "95th percentile, px", "max, px", "share of frames over the bound"]
    section.tables += [Lines("", head, rows), Lines("", shares, noise_rows)]
    return section


def after_speech(subject: Subject, clip: Clip, stop: int) -> tuple[Frames, Frames]:
    """Frames from 400 ms after sample ``stop`` on, with zeros from there, and the identity."""
    zeros = np.zeros(round(AFTER * SAMPLE_RATE), np.float32)
    frames = subject.said(np.concatenate([clip.audio[:stop], zeros]), clip.identity)
    first = int(np.ceil((stop / SAMPLE_RATE + CLOSES_WITHIN) * FPS))
    return frames[first:], clip.identity


def jitter_of(frames: Frames) -> Frames:
    """Standard deviation over time of each of the mouth's points, (20,)."""
    return np.sqrt(frames[:, MOUTH].var(axis=0).sum(axis=-1))


def noises(seconds: float = 10.0) -> dict[str, list[Samples]]:
    return {
        "digital silence": [np.zeros(round(seconds * SAMPLE_RATE), np.float32)],
        "white noise": [perturb.white_noise(seconds, -30, seed=1)],
        "hum": [perturb.hum(seconds, -30)],
        "music": [perturb.music(seconds, -18, seed) for seed in (1, 2, 3)],
    }
