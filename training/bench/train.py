"""Measures the speed of training: the real loop, on a corpus of noise."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from kfusion.landmarks import NEUTRAL
from training import train
from training.corpus.clips import Clip
from training.corpus.format import CorpusHeader, CorpusWriter
from training.data.augment import ON
from training.scores.tables import markdown_table

WARM_UP: Final = 10
AUGMENTED: Final = [name for name in ON if name != "pitch"]
ROWS: Final[dict[str, list[str]]] = {
    "no augmentation": [],
    "all but pitch": AUGMENTED,
    "all augmentation": list(ON),
}


def training_table(steps: int, options: Sequence[str]) -> str:
    """Markdown: windows a second, and the share of a step that waits for the loader."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = noise_corpus(Path(folder) / "corpus")
        for name, augment in ROWS.items():
            common = ["--data", str(corpus), "--augment", *augment, "--save-every", "1000000"]
            for part in (WARM_UP, steps):
                out = Path(folder) / f"{name}-{part}"
                a = train.arguments([*options, *common, "--steps", str(part), "--out", str(out)])
                done = train.train(a)
            rows.append([
                name,
                f"{done.windows / done.seconds:.0f}",
                f"{1000 * done.seconds / done.steps:.0f}",
                f"{done.waited / done.seconds:.1%}",
            ])  # fmt: skip
    return markdown_table(["", "windows/s", "ms/step", "loader, share of a step"], rows)


def noise_corpus(folder: Path, clips: int = 200, seconds: int = 3) -> Path:
    """Noise and a face that trembles: as much work as speech is."""
    rng = np.random.default_rng(0)
    header = CorpusHeader(
        source="made", layout="made", split_by="clip", seed=0, share=0.1, held_out=[]
    )
    with CorpusWriter(folder, header) as corpus:
        for k in range(clips):
            sound = rng.normal(0, 0.1, seconds * 16_000).astype(np.float32)
            points = NEUTRAL + rng.normal(0, 1, (seconds * 30, 68, 2))
            corpus.add(
                Clip(f"{k:03d}", sound, points, "noise"), "validation" if k < 20 else "train"
            )
        corpus.finish()
    return folder
