"""What a model makes of voices that were changed, against the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from training.corpus.clips import Clip, Samples, at_times
from training.scores.scoring import evaluate
from training.trial import perturb
from training.trial.model import Subject
from training.trial.report import Check, Lines, Section

Frames = NDArray[np.float64]

CHANGED_CLIPS: Final = 24
FALL: Final = 0.08
FALL_BABBLE: Final = 0.12

Change = Callable[[int, Clip], Clip]
"""(number, clip) -> the clip with another sound; where its time changes, so does the truth."""


def sound_changed(change: Callable[[Samples], Samples]) -> Change:
    return lambda _, clip: replace(clip, audio=change(clip.audio))


def in_time(change: Callable[[Samples, float], Samples], speed: float) -> Change:
    """The sound at another speed, and the truth with it."""

    def changed(_: int, clip: Clip) -> Clip:
        count = int((len(clip.points) - 1) / speed) + 1
        times = np.arange(len(clip.points)) / FPS
        points = at_times(clip.points, times, np.arange(count) * speed / FPS)
        return replace(clip, audio=change(clip.audio, speed), points=points, rest=clip.identity)

    return changed


def with_babble(data: Path, snr_db: float) -> Change:
    folders = (data / "speechocean", data / "librispeech")
    voices = [v for f in folders for v in perturb.held_out_voices(f).values()]
    sounds = [of_one[0] for of_one in voices]  # each speaker once

    def changed(number: int, clip: Clip) -> Clip:
        noise = perturb.babble(sounds, len(clip.audio), seed=number)
        return replace(clip, audio=perturb.mixed(clip.audio, noise, snr_db))

    return changed


def changes(data: Path) -> dict[str, tuple[Change, float | None]]:
    """{name: (change, the most that the correlation may fall)}."""
    return {
        "pitch +6 semitones": (sound_changed(partial(perturb.shifted, semitones=6)), FALL),
        "pitch -6 semitones": (sound_changed(partial(perturb.shifted, semitones=-6)), FALL),
        "speed 0.8": (in_time(perturb.sped, 0.8), FALL),
        "speed 1.25": (in_time(perturb.sped, 1.25), FALL),
        "telephone": (sound_changed(perturb.telephone), FALL),
        "babble at 10 dB": (with_babble(data, 10), FALL_BABBLE),
        "speed 0.8, own pitch": (in_time(perturb.paced, 0.8), None),
        "speed 1.25, own pitch": (in_time(perturb.paced, 1.25), None),
        "gain -20 dB": (sound_changed(partial(perturb.gained, db=-20)), None),
    }


def changed(subject: Subject) -> Section:
    section = Section(
        "voices changed",
        f"Fall of the mean lip correlation on {CHANGED_CLIPS} grid_s1 validation clips. Pitch: a "
        "phase vocoder and resampling, so the formants move too. Speed: resampled, as a tape (or, "
        "own pitch, a phase vocoder), the truth with it. Telephone: 8 kHz, 300-3400 Hz, 8-bit "
        "mu-law. Babble: six voices of speechocean and librispeech that are held out from "
        "training; its level is against that of the whole clip.",
    )
    clips = subject.some(CHANGED_CLIPS)

    def predict(clip: Clip) -> Frames:
        return subject.said(clip.audio, clip.identity)

    plain, _ = evaluate(clips, predict)
    head = ["voice", "lip correlation", "fall", "gain", "M-LD, px"]
    rows: list[list[str | float]] = [
        ["as it is", plain["correlation"], 0.0, plain["gain"], plain["m_ld"]]
    ]

    def row(what: str, others: Sequence[Clip], how: Callable[[Clip], Frames]) -> float:
        found, _ = evaluate(others, how)
        fall = plain["correlation"] - found["correlation"]
        rows.append([what, found["correlation"], fall, found["gain"], found["m_ld"]])
        return fall

    for what, (change, most) in changes(subject.data).items():
        fall = row(what, [change(k, c) for k, c in enumerate(clips)], predict)
        if most is not None:
            section.checks.append(Check(f"{what}: fall", fall, high=most))
    row("a second of silence before it", clips, lambda c: after_a_second(subject, c))
    section.tables.append(Lines("", head, rows))
    return section


def after_a_second(subject: Subject, clip: Clip) -> Frames:
    quiet = np.zeros(SAMPLE_RATE, np.float32)
    return subject.said(np.concatenate([quiet, clip.audio]), clip.identity)[FPS:]
