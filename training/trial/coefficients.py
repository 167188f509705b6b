"""ARKit, VRM and viseme coefficients of tracked faces: a trial of the rig; the model is not run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.coefficients import ARKIT52, VISEMES, VRM, Rig
from kfusion.config import FPS
from kfusion.landmarks import Identity
from training.corpus.clips import at_30fps, face_at_rest, read_points
from training.phones import PHONE_INDEX, phones_at, read_phones
from training.trial.emotion import real_tracks
from training.trial.model import TrialModel
from training.trial.report import Check, Section

EVERY: Final = 18
"""One of so many clips of grid_s1 is measured."""
SHOWN: Final = ("happy", "angry", "sad", "surprised", "neutral")
"""Emotions that VRM has too."""

# Emotion, coefficient (mean of left and right), statistic over a clip, and bounds for each actor.
ACTED: Final = (
    ("happy", "mouthSmile", "median", 0.3, inf),
    *((e, "mouthSmile", "median", -inf, 0.15) for e in ("surprised", "disgusted", "neutral")),
    ("angry", "browDown", "median", 0.6, inf),
    ("angry", "eyeSquint", "median", 0.5, inf),
    ("angry", "browInnerUp", "median", -inf, 0.05),
    ("angry", "angry", "mean", 0.4, inf),
    ("surprised", "browInnerUp", "median", 0.4, inf),
    ("surprised", "eyeWide", "median", 0.3, inf),
    ("surprised", "browDown", "median", -inf, 0.05),
    ("surprised", "jawOpen", "mean over that of the neutral clip", 1.5, inf),
    ("surprised", "surprised", "mean", 0.4, inf),
    ("sad", "mouthFrown", "mean", 0.15, inf),
    ("sad", "mouthFrown", "mean over that of the neutral clip", 1.2, inf),
    ("sad", "mouthSmile", "median", -inf, 0.1),
    ("sad", "sad", "mean", 0.1, inf),
)
STILL_IN_SPEECH: Final = (
    "mouthSmile", "browDown", "browOuterUp", "mouthStretch", "mouthPress", "browInnerUp", "jawLeft",
    "jawRight", "mouthLeft", "mouthRight",
)  # fmt: skip
LIPS: Final = ("P", "B", "M")
OPEN: Final = ("AA", "AE", "AY")
HIGH: Final = ("IY", "IH")
ROUND: Final = ("UW", "W", "AO", "OW")

Values = NDArray[np.float32]


def measure(model: TrialModel) -> Section:
    return Section(
        "coefficients",
        "What the rig makes of tracked faces; the same for every model. MEAD's actors at level 3, "
        "each against the face at rest of its neutral clip: the actor that is nearest to the bound "
        f"or beyond it. Every {EVERY}th clip of grid_s1, with its phones by forced alignment.",
        checks=[
            *acted_checks(acted(model.data / "mead_expressions")),
            *speech_checks(speech(model.data)),
        ],
    )


def columns(names: Sequence[str], values: Values) -> dict[str, Values]:
    """{name: (T,)}; beside ``xLeft`` and ``xRight`` their mean as ``x``."""
    found = {name: values[:, k] for k, name in enumerate(names)}
    for name in names:
        stem = name.removesuffix("Left")
        if stem != name:
            found[stem] = (found[name] + found[f"{stem}Right"]) / np.float32(2)
    return found


def acted(folder: Path) -> dict[str, list[dict[str, Values]]]:
    """{emotion: each actor's coefficients of ARKit and VRM}."""
    found: dict[str, list[dict[str, Values]]] = {}
    for tracks in real_tracks(folder).values():
        rig = Rig(Identity.from_points(face_at_rest(tracks["neutral"])))
        for emotion, points in tracks.items():
            moved = rig.displacement(points)
            values = columns(ARKIT52, rig.arkit52(moved)) | columns(VRM, rig.vrm(moved))
            found.setdefault(emotion, []).append(values)
    return found


def acted_checks(actors: Mapping[str, list[dict[str, Values]]]) -> Iterator[Check]:
    for emotion, name, statistic, low, high in ACTED:
        of_actors = [
            float(np.median(values[name]) if statistic == "median" else values[name].mean())
            / (neutral[name].mean() if "neutral clip" in statistic else 1)
            for values, neutral in zip(actors[emotion], actors["neutral"], strict=True)
        ]
        worst = max(of_actors) if low == -inf else min(of_actors)
        yield Check(f"{emotion}: {name}, {statistic}", worst, low, high)
    for shown in SHOWN:
        mean = {e: float(np.mean([values[shown].mean() for values in actors[e]])) for e in SHOWN}
        others = max(value for emotion, value in mean.items() if emotion != shown)
        yield Check(f"{shown} in VRM, acted over what others show", mean[shown] / others, 1)


@dataclass(frozen=True)
class SpokenFrames:
    """The frames at 30 fps of a speaker's clips, one clip after another."""

    phones: NDArray[np.uint8]
    values: dict[str, Values]  # coefficients of ARKit and visemes
    largest: NDArray[Any]  # index of the largest viseme

    def during(self, phones: Sequence[str]) -> NDArray[np.bool_]:
        return np.isin(self.phones, [PHONE_INDEX[phone] for phone in phones])

    def ratio(self, name: str, phones: Sequence[str], others: Sequence[str] | None = None) -> float:
        """The coefficient's mean during ``phones`` over that during other phones."""
        here = self.during(phones)
        there = ~here if others is None else self.during(others)
        return float(self.values[name][here].mean() / self.values[name][there].mean())


def speech(data: Path) -> SpokenFrames:
    phones = read_phones(data / "grid_s1_phones.tsv")
    parts: list[tuple[NDArray[np.uint8], Values, Values]] = []
    for track in sorted((data / "grid_s1").glob("*.npz"))[::EVERY]:
        points, fps = read_points(track)
        frames = at_30fps(points, np.arange(len(points)) / fps)
        rig = Rig(Identity.from_points(face_at_rest(points)))
        moved = rig.displacement(frames)
        label = phones_at(phones[track.stem], np.arange(len(frames)) / FPS)
        parts.append((label, rig.arkit52(moved), rig.visemes(moved)))
    labels, arkit, visemes = (np.concatenate(part) for part in zip(*parts, strict=True))
    values = columns(ARKIT52, arkit) | columns(VISEMES, visemes)
    values["oh or ou"] = values["oh"] + values["ou"]
    return SpokenFrames(labels, values, visemes.argmax(axis=1))


def speech_checks(s: SpokenFrames) -> list[Check]:
    jaw, eye = s.values["jawOpen"], s.values["eyeBlink"]
    blinks = int(((eye[1:] > 0.8) & (eye[:-1] <= 0.8)).sum())
    still = {name: float(np.percentile(s.values[name], 90)) for name in STILL_IN_SPEECH}
    closed = s.during(LIPS)
    pp = s.largest == VISEMES.index("PP")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], closed.astype(int), [0]]))).reshape(-1, 2)
    found = float(np.mean([pp[max(0, begin - 1) : end + 1].any() for begin, end in edges]))
    over_others = float(pp[closed].mean() / pp[~closed].mean())
    return [
        Check("jawOpen, 95th percentile", float(np.percentile(jaw, 95)), 0.3, 0.5),
        Check("jawOpen, share of frames below 0.6", float((jaw < 0.6).mean()), 0.99),
        *(Check(f"{name}, 90th percentile", p90, high=0.2) for name, p90 in still.items()),
        Check("eyeBlink beyond 0.8, times a minute", blinks / (len(eye) / FPS / 60), 8, 60),
        Check("PP the largest viseme in p, b, m, share of frames", float(pp[closed].mean()), 0.5),
        Check("the same over that in other phones", over_others, 3.5),
        Check("closures of p, b, m", len(edges), 40),
        Check("of which PP is the largest viseme within a frame, share", found, 0.85),
        Check("mouthClose in p, b, m over that in vowels",
              s.ratio("mouthClose", LIPS, ("AY", "EH", "EY", "IY")), 3),
        Check("FF in f, v over that in other phones", s.ratio("FF", ("F", "V")), 4),
        Check("aa in open vowels over that in high ones", s.ratio("aa", OPEN, HIGH), 1.3),
        Check("ih in high vowels over that in open ones", s.ratio("ih", HIGH, OPEN), 1.5),
        Check("aa in open vowels over that in rounded ones", s.ratio("aa", OPEN, ROUND), 3),
        Check("oh or ou in rounded vowels over that in open or high ones",
              s.ratio("oh or ou", ROUND, (*OPEN, *HIGH)), 3),
    ]  # fmt: skip
