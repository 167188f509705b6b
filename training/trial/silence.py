"""What a model does where nobody speaks: silence, noise, music."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.landmarks import MOUTH, NEUTRAL, lip_gap
from training.corpus.clips import Clip, Points, Samples
from training.trial import perturb
from training.trial.model import TrialModel
from training.trial.report import Check, Section, Table

CUTS: Final = (0.9, 1.3, 1.7)
"""Seconds at which GRID's speakers are in the middle of words."""
CLOSES_WITHIN: Final = 0.4
AFTER: Final = 1.5
"""Seconds of digital silence that are appended."""
REST_PX: Final = 1.0
NOISE_PX: Final = 1.5
SILENCE_CLIPS: Final = 8
NOISE_FACES: Final = 2


def gap_from_rest(frames: Points, identity: Points) -> NDArray[np.float64]:
    """How far the inner-lip gap is from the identity's, (T,), pixels."""
    return np.abs(lip_gap(frames) - lip_gap(identity))


def measure(model: TrialModel) -> Section:
    section = Section(
        "silence",
        "Distance of the inner-lip gap from the identity's, px. Law 6: "
        f"{SILENCE_CLIPS} grid_s1 validation clips, whole or cut in the middle of words (at {CUTS} "
        f"s), then {AFTER} s of zeros; from 400 ms after the sound stops. Jitter is the standard "
        "deviation over time of the mouth's points then. Noises for 10 s, each on the canonical "
        f"face and on {NOISE_FACES} speakers' faces: white noise and hum (50 Hz and harmonics) at "
        "-30 dBFS; three pieces of synthesised instrumental music (plucked strings, struck bars, "
        "bass, drums) at -18 dBFS.",
    )
    clips = model.subset(SILENCE_CLIPS)
    stops = {
        "after a clip's end": [(c, len(c.audio)) for c in clips],
        "after a cut in mid-word": [(c, round(cut * SAMPLE_RATE)) for c in clips for cut in CUTS],
    }
    jitter_rows: list[list[str | float]] = []
    for name, cuts in stops.items():
        frames = [after_speech(model, clip, stop) for clip, stop in cuts]
        gaps = np.concatenate(
            [gap_from_rest(f, c.identity) for f, (c, _) in zip(frames, cuts, strict=True)]
        )
        section.checks.append(Check(f"{name}, max", float(gaps.max()), high=REST_PX, unit="px"))
        jitter = np.stack([jitter_of(f) for f in frames])
        jitter_rows.append([name, float(jitter.mean()), float(jitter.max())])
    noise_rows: list[list[str | float]] = []
    faces = [NEUTRAL, *(c.identity for c in clips[:NOISE_FACES])]
    for name, sounds in noises().items():
        gaps = np.concatenate(
            [gap_from_rest(model.animate(s, face), face) for s in sounds for face in faces]
        )
        section.checks.append(Check(f"{name}, max", float(gaps.max()), high=NOISE_PX, unit="px"))
        over = float((gaps > NOISE_PX).mean())
        noise_rows.append([name, float(np.percentile(gaps, 95)), float(gaps.max()), over])
    jitter_head = ["jitter in silence, px", "mean of the points", "the most of a point of any clip"]
    noise_head = ["sound", "95th percentile, px", "max, px", "share of frames over the bound"]
    section.tables += [Table("", jitter_head, jitter_rows), Table("", noise_head, noise_rows)]
    return section


def after_speech(model: TrialModel, clip: Clip, stop: int) -> Points:
    """Frames from 400 ms after sample ``stop`` on, with zeros from there."""
    zeros = np.zeros(round(AFTER * SAMPLE_RATE), np.float32)
    frames = model.animate(np.concatenate([clip.audio[:stop], zeros]), clip.identity)
    return frames[int(np.ceil((stop / SAMPLE_RATE + CLOSES_WITHIN) * FPS)) :]


def jitter_of(frames: Points) -> NDArray[np.float64]:
    """Standard deviation over time of each of the mouth's points, (20,)."""
    return np.sqrt(frames[:, MOUTH].var(axis=0).sum(axis=-1))


def noises(seconds: float = 10.0) -> dict[str, list[Samples]]:
    return {
        "digital silence": [np.zeros(round(seconds * SAMPLE_RATE), np.float32)],
        "white noise": [perturb.white_noise(seconds, -30, seed=1)],
        "hum": [perturb.hum(seconds, -30)],
        "music": [perturb.music(seconds, -18, seed) for seed in (1, 2, 3)],
    }
