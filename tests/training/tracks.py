"""A folder of ready-made sets, small and made, as the trial reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from kfusion.emotion import EMOTIONS, displacement, vector
from kfusion.landmarks import NEUTRAL
from tests.conftest import voice
from tests.training.corpora import talking
from training.corpus.clips import Clip
from training.corpus.splits import split_of_clip


def write_track(folder: Path, clip: Clip, fps: float = 30.0) -> Path:
    """NAME.flac and NAME.npz; gives the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{clip.name}.flac", clip.audio, 16_000)
    return write_points(folder / f"{clip.name}.npz", clip.points, fps)


def write_points(path: Path, points: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
                 fps: float = 30.0) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, points_q64=np.round(points * 64).astype(np.int16), fps=fps)
    return path


def small_data(folder: Path) -> Path:
    """Every set that a trial reads, a clip or a few of each."""
    names = [f"clip{k:02d}" for k in range(30)]
    held = [n for n in names if split_of_clip(n) == "validation"][:2]
    taught = [n for n in names if split_of_clip(n) == "train"][:2]
    for k, name in enumerate([*held, *taught]):
        write_track(folder / "grid_s1", talking(name, k))
    for k, name in enumerate(("grid_others", "mead_speech", "speakers"), 10):
        write_track(folder / name, talking("one", k))
    spans = "".join(f"{n}\t0.5\t0.6\tB\n" for n in held)
    (folder / "grid_s1_phones.tsv").write_text("clip\tstart_s\tend_s\tphone\n" + spans)
    for emotion in EMOTIONS:
        face = NEUTRAL + displacement(vector({emotion: 1.0}))
        name = f"W001_front_{emotion}_level3_001.npz"
        write_points(folder / "mead_expressions" / name, np.repeat(face[None], 20, axis=0))
    (folder / "voices").mkdir()
    sound = np.concatenate([np.zeros(8000), voice(2.0, seed=5), np.zeros(16_000)])
    soundfile.write(folder / "voices" / "someone.flac", sound, 16_000)
    numbers = [f"{k:04d}" for k in range(200) if split_of_clip(f"{k:04d}") == "validation"]
    for name, names in (("speechocean", [f"0{n}0011" for n in numbers[:4]]),
                        ("librispeech", [f"{n}-1-0000" for n in numbers[4:8]])):  # fmt: skip
        (folder / name).mkdir()
        for k, stem in enumerate(names):
            soundfile.write(folder / name / f"{stem}.ogg", voice(1.0, seed=20 + k), 16_000)
    return folder
