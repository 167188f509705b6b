"""Small ready-made tracks: for training.prepare, and the sets that a trial reads."""

from pathlib import Path

import numpy as np
import soundfile

from kfusion.emotion import EMOTIONS, displacement, vector
from kfusion.landmarks import NEUTRAL
from tests.conftest import voice
from tests.training.corpora import talking
from training.corpus.clips import Clip
from training.corpus.splits import split_of_clip

FILES = (
    "begun.json", "corpus.json", "clips.jsonl", "skipped.jsonl",
    "audio.i16", "points.i16", "phones.u8",
)  # fmt: skip


def corpus_files(folder: Path) -> dict[str, bytes]:
    """The contents of a prepared corpus's files, which are all that is there."""
    assert {p.name for p in folder.iterdir()} - {"offsets.csv"} == set(FILES)
    return {name: (folder / name).read_bytes() for name in FILES}


def write_tracks(folder: Path, count: int, seconds: float = 1.0) -> Path:
    """Tracks at 25 fps of four speakers, p0 to p3; the one numbered 5 has no sound."""
    rng = np.random.default_rng(3)
    speech = voice(seconds)
    for n in range(count):
        path = folder / f"p{n % 4}" / f"{n:03}_{'happy' if n % 3 else 'neutral'}.npz"
        move = np.cumsum(rng.normal(size=(round(25 * seconds), 68, 2)), axis=0)
        write_points(path, NEUTRAL + move, 25.0, tracked=0.9)
        if n != 5:
            soundfile.write(path.with_suffix(".flac"), np.roll(speech, 97 * n), 16_000)
    return folder


def prepare_options(source: Path, out: Path, *more: str) -> list[str]:
    """Options of training.prepare for :func:`write_tracks`; p2 is held out."""
    pattern = r"(?P<speaker>p\d)/\d+_(?P<emotion>[a-z]+)"
    names = ["--source", str(source), "--out", str(out), "--name", pattern]
    return [*names, "--held-out", "p2", *more]


def write_track(folder: Path, clip: Clip, fps: float = 30.0) -> Path:
    """NAME.flac and NAME.npz; gives the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{clip.name}.flac", clip.audio, 16_000)
    return write_points(folder / f"{clip.name}.npz", clip.points, fps)


def write_points(path: Path, points: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
                 fps: float = 30.0, tracked: float = 1.0) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, points_q64=np.round(points * 64).astype(np.int16), fps=fps, tracked=tracked)
    return path


def small_data(folder: Path) -> Path:
    """Every set that a trial reads, a clip or a few of each."""
    names = [f"clip{k:02d}" for k in range(30)]
    held = [n for n in names if split_of_clip(n) == "validation"][:2]
    taught = [n for n in names if split_of_clip(n) == "train"][:2]
    for k, name in enumerate([*held, *taught]):
        write_track(folder / "grid_s1", talking(name, k))
    for k, name in enumerate(("grid_others", "mead_speech", "speakers", "grid_more"), 10):
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
