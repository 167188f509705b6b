"""How much accuracy a model loses on perturbed speech."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from kfusion.config import FPS, SAMPLE_RATE
from training.corpus.clips import Clip, Points, Samples, at_times
from training.scores.scoring import Predict, score_predictor
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


def of_speed(perturbed: Callable[[Samples, float], Samples], speed: float) -> Perturbation:
    """The sound at another speed, and the truth with it."""

    def perturb_clip(_: int, clip: Clip) -> Clip:
        count = int((len(clip.points) - 1) / speed) + 1
        times = np.arange(len(clip.points)) / FPS
        points = at_times(clip.points, times, np.arange(count) * speed / FPS)
        return replace(clip, audio=perturbed(clip.audio, speed), points=points, rest=clip.identity)

    return perturb_clip


def with_babble(data: Path, snr_db: float) -> Perturbation:
    folders = (data / "speechocean", data / "librispeech")
    voices = [v for f in folders for v in perturb.held_out_voices(f).values()]
    sounds = [of_one[0] for of_one in voices]  # each speaker once

    def perturb_clip(number: int, clip: Clip) -> Clip:
        noise = perturb.babble(sounds, len(clip.audio), seed=number)
        return replace(clip, audio=perturb.mixed(clip.audio, noise, snr_db))

    return perturb_clip


def perturbations(data: Path) -> dict[str, tuple[Perturbation, float | None]]:
    """{name: (perturbation, bound of the fall of the correlation)}."""
    return {
        "pitch +6 semitones": (of_audio(partial(perturb.pitch_shifted, semitones=6)), FALL),
        "pitch -6 semitones": (of_audio(partial(perturb.pitch_shifted, semitones=-6)), FALL),
        "speed 0.8": (of_speed(perturb.resampled, 0.8), FALL),
        "speed 1.25": (of_speed(perturb.resampled, 1.25), FALL),
        "telephone": (of_audio(perturb.telephone), FALL),
        "babble at 10 dB": (with_babble(data, 10), FALL_BABBLE),
        "speed 0.8, own pitch": (of_speed(perturb.time_stretched, 0.8), None),
        "speed 1.25, own pitch": (of_speed(perturb.time_stretched, 1.25), None),
        "gain -20 dB": (of_audio(partial(perturb.with_gain, db=-20)), None),
    }


def measure(model: TrialModel) -> Section:
    section = Section(
        "robustness",
        f"Fall of the mean lip correlation on {CLIPS} grid_s1 validation clips. Pitch: a "
        "phase vocoder and resampling, so the formants move too. Speed: resampled, as a tape (or, "
        "own pitch, a phase vocoder), the truth with it. Telephone: 8 kHz, 300-3400 Hz, 8-bit "
        "mu-law. Babble: six voices of speechocean and librispeech that are held out from "
        "training; its level is against that of the whole clip.",
    )
    clips = model.subset(CLIPS)
    plain = score_predictor(clips, model.predict).row
    rows: list[list[str | float]] = [
        ["as it is", plain["correlation"], 0.0, plain["gain"], plain["m_ld"]]
    ]

    def fall_of(name: str, perturbed: Sequence[Clip], predict: Predict) -> float:
        row = score_predictor(perturbed, predict).row
        fall = plain["correlation"] - row["correlation"]
        rows.append([name, row["correlation"], fall, row["gain"], row["m_ld"]])
        return fall

    for name, (perturbation, bound) in perturbations(model.data).items():
        fall = fall_of(name, [perturbation(k, c) for k, c in enumerate(clips)], model.predict)
        if bound is not None:
            section.checks.append(Check(f"{name}: fall", fall, high=bound))
    fall_of("a second of silence before it", clips, partial(predict_after_silence, model))
    head = ["voice", "lip correlation", "fall", "gain", "M-LD, px"]
    section.tables.append(Table("", head, rows))
    return section


def predict_after_silence(model: TrialModel, clip: Clip) -> Points:
    """The clip's frames where a second of silence comes before it."""
    silence = np.zeros(SAMPLE_RATE, np.float32)
    return model.animate(np.concatenate([silence, clip.audio]), clip.identity)[FPS:]
