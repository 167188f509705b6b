"""How much accuracy a model loses on perturbed speech."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from kfusion.config import FPS
from training.corpus.clips import Clip, Samples, at_times
from training.scores.scoring import score_predictor
from training.trial import perturb
from training.trial.model import TrialModel
from training.trial.report import Check, Section, Table

CLIPS: Final = 24
FALL: Final = 0.08
FALL_BABBLE: Final = 0.12

Perturbation = Callable[[int, Clip], Clip]
"""(number, clip) -> the clip with another sound; where its time changes, so does the truth."""


def of_audio(perturbed: Callable[[Samples], Samples]) -> Perturbation:
    return lambda _, clip: replace(clip, audio=perturbed(clip.audio))


def of_speed(speed: float) -> Perturbation:
    """The sound at another speed, and the truth with it."""

    def perturb_clip(_: int, clip: Clip) -> Clip:
        count = int((len(clip.points) - 1) / speed) + 1
        times = np.arange(len(clip.points)) / FPS
        points = at_times(clip.points, times, np.arange(count) * speed / FPS)
        audio = perturb.resampled(clip.audio, speed)
        return replace(clip, audio=audio, points=points, rest=clip.identity)

    return perturb_clip


def with_babble(data: Path, snr_db: float) -> Perturbation:
    folders = (data / "speechocean", data / "librispeech")
    voices = [v for f in folders for v in perturb.held_out_voices(f).values()]
    sounds = [of_one[0] for of_one in voices]  # each speaker once

    def perturb_clip(number: int, clip: Clip) -> Clip:
        noise = perturb.babble(sounds, len(clip.audio), seed=number)
        return replace(clip, audio=perturb.mixed(clip.audio, noise, snr_db))

    return perturb_clip


def perturbations(data: Path) -> dict[str, tuple[Perturbation, float]]:
    """{name: (perturbation, bound of the fall of the correlation)}."""
    return {
        "pitch +6 semitones": (of_audio(partial(perturb.pitch_shifted, semitones=6)), FALL),
        "pitch -6 semitones": (of_audio(partial(perturb.pitch_shifted, semitones=-6)), FALL),
        "speed 0.8": (of_speed(0.8), FALL),
        "speed 1.25": (of_speed(1.25), FALL),
        "telephone": (of_audio(perturb.telephone), FALL),
        "babble at 10 dB": (with_babble(data, 10), FALL_BABBLE),
    }


def measure(model: TrialModel) -> Section:
    section = Section(
        "robustness",
        f"Fall of the mean lip correlation on {CLIPS} grid_s1 validation clips. Pitch: a phase "
        "vocoder and resampling, so the formants move too. Speed: resampled, as a tape, the truth "
        "with it. Telephone: 8 kHz, 300-3400 Hz, 8-bit mu-law. Babble: six voices of speechocean "
        "and librispeech that are held out from training, its level against the whole clip's.",
    )
    clips = model.subset(CLIPS)
    plain = score_predictor(clips, model.predict).row
    rows: list[list[str | float]] = [
        ["as it is", plain["correlation"], 0.0, plain["gain"], plain["m_ld"]]
    ]
    for name, (perturbation, bound) in perturbations(model.data).items():
        perturbed = [perturbation(k, clip) for k, clip in enumerate(clips)]
        row = score_predictor(perturbed, model.predict).row
        fall = plain["correlation"] - row["correlation"]
        rows.append([name, row["correlation"], fall, row["gain"], row["m_ld"]])
        section.checks.append(Check(f"{name}: fall", fall, high=bound))
    head = ["voice", "lip correlation", "fall", "gain", "M-LD, px"]
    section.tables.append(Table("", head, rows))
    return section
