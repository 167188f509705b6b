"""ClipMetrics checkpoints on prepared corpora, beside faces that need no model::

    python -m training.evaluate --data corpora/mead --checkpoint runs/mine/model.safetensors
        --out scores/ --latency --video auto --table 1

--out gets summary.md, summary.json, scores.csv (a line a clip and row) and overlay.png; with
--latency also latency.csv and latency.png, with --video a side-by-side video with sound.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion import __version__, mp4
from kfusion.config import FRAMES
from kfusion.errors import DataError, run_command
from kfusion.runtime import WEIGHTS, Animator
from kfusion.stream import HOPS
from training.corpus.clips import Clip
from training.corpus.format import Corpus, Entry, open_corpora, select_entries
from training.models.networks import load_engine
from training.scores.latency import draw_latency, latency_sweep, latency_table
from training.scores.overlay import OverlayRow, draw_overlay, pick_clips
from training.scores.paper_tables import VARIANTS, table_1, table_2
from training.scores.scoring import (
    Predict,
    Result,
    Row,
    mean_displacement,
    predict_offline,
    read_closures,
    references,
    score_predictor,
    score_predictors,
)
from training.scores.side_by_side import write_side_by_side
from training.scores.summary import (
    ALIGNED,
    as_json,
    csv_rows,
    markdown,
    metrics_table,
    summary_rows,
)
from training.scores.tables import write_csv


def score_checkpoint(
    checkpoint: Path, clips: Iterable[Clip], hop: int = 3, lookahead: int = 3
) -> Row:
    """Means over the clips, the emotion neutral; ``m_ld`` ... ``f_lvd`` are aligned, in pixels.

    Raises :class:`~kfusion.errors.CheckpointError` and, without a clip, ``DataError``.
    """
    animator = Animator(load_engine(checkpoint))
    return score_predictor(clips, lambda c: predict_offline(animator, c, hop, lookahead)).row


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="kfusion-evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    p.add_argument("--data", type=Path, nargs="+", required=True, metavar="CORPUS")
    p.add_argument("--split", choices=["train", "validation", "all"], default="validation")
    p.add_argument("--checkpoint", type=Path, nargs="+", default=[WEIGHTS], metavar="FILE")
    p.add_argument("--label", nargs="+", metavar="NAME", help="the checkpoints' names in tables")
    p.add_argument("--hop", type=int, default=3, help="frames")
    p.add_argument("--lookahead", type=int, default=3, help="frames")
    p.add_argument("--latency", action="store_true", help="sweep hop and look-ahead")
    p.add_argument("--phones", type=Path, help="table of clip, start_s, end_s, phone")
    p.add_argument("--table", type=int, choices=[1, 2], help="print the paper's, with our rows")
    p.add_argument("--out", type=Path, metavar="DIR")
    p.add_argument("--video", metavar="CLIP", help="a clip's name, or auto: one of median M-LD")
    p.add_argument("--device", default="cpu")
    return p


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = parser()
    a = p.parse_args(argv)
    if a.hop not in HOPS or a.lookahead < 0 or a.hop + a.lookahead > FRAMES:
        p.error(f"--hop {a.hop} --lookahead {a.lookahead}; wanted a hop of {HOPS}, a sum up to 30")
    if a.label and len(a.label) != len(a.checkpoint):
        p.error(f"{len(a.label)} labels for {len(a.checkpoint)} checkpoints; wanted one each")
    if a.label and len(set(a.label)) < len(a.label):
        p.error(f"--label {' '.join(a.label)}; wanted names that differ")
    if a.video and not a.out:
        p.error("--video needs --out, the folder it is written to")
    a.command = shlex.join(["python", "-m", "training.evaluate", *(argv or sys.argv[1:])])
    return a


@dataclass
class Evaluation:
    """Open corpora, the clips to score, models by label, and notes on omitted rows."""

    options: argparse.Namespace
    corpora: list[Corpus]
    entries: list[tuple[Corpus, Entry]]
    animators: dict[str, Animator]
    notes: list[str] = field(default_factory=list[str])

    @classmethod
    def open(cls, options: argparse.Namespace) -> Evaluation:
        corpora = open_corpora(options.data)
        names = options.label or labels_of(options.checkpoint)
        animators = {
            name: Animator(load_engine(path, options.device))
            for name, path in zip(names, options.checkpoint, strict=True)
        }
        return cls(options, corpora, select_entries(corpora, options.split), animators)

    def clips(self) -> Iterator[Clip]:
        return (corpus.clip(entry) for corpus, entry in self.entries)

    @property
    def models(self) -> dict[str, Predict]:
        """The rows of the models; where clips are labelled also with the label given."""
        labelled = any(e.emotion not in (None, "neutral") for _, e in self.entries)
        hop, lookahead = self.options.hop, self.options.lookahead
        rows: dict[str, Predict] = {}
        for name, animator in self.animators.items():
            predict = partial(predict_offline, animator, hop=hop, lookahead=lookahead)
            rows[name] = predict
            if labelled:
                rows[f"{name}, label given"] = partial(predict, emotion=True)
        return rows

    def constant(self) -> NDArray[np.float64] | None:
        """The best constant; None, noted, where the data has no training side."""
        corpora = [c for c in self.corpora if any(e.split == "train" for e in c.entries)]
        if not corpora:
            self.notes.append("No row for the best constant: no clip here is of a training side.")
            return None
        clips = (clip for corpus in corpora for clip in corpus.clips("train"))
        return mean_displacement(tqdm(clips, desc="constant", unit="clip", disable=None))

    def find(self, name: str) -> Clip:
        for corpus, entry in self.entries:
            if entry.name == name:
                return corpus.clip(entry)
        raise DataError(
            f"--video {name}: no {self.options.split} clip has this name; wanted one, or auto"
        )

    def about(self) -> dict[str, Any]:
        return {
            "command": self.options.command,
            "data": [c.header.source for c in self.corpora],
            "split": self.options.split,
            "clips": len(self.entries),
            "checkpoints": {name: x.engine.sha256 for name, x in self.animators.items()},
            "hop": self.options.hop,
            "lookahead": self.options.lookahead,
            "notes": self.notes,
        }


def labels_of(checkpoints: Sequence[Path]) -> list[str]:
    """Names for checkpoints: "bundled", the folder, or folder/file where folders are alike."""
    names = ["bundled" if c == WEIGHTS else c.resolve().parent.name for c in checkpoints]
    longer = [f"{c.resolve().parent.name}/{c.stem}" for c in checkpoints]
    names = [n if names.count(n) == 1 else l for n, l in zip(names, longer, strict=True)]
    if len(set(names)) < len(names):
        raise DataError(f"checkpoints {', '.join(names)} are named alike; wanted --label for each")
    return names


def run(options: argparse.Namespace) -> None:
    evaluation = Evaluation.open(options)
    out: Path | None = options.out
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error})") from None
    if options.video:
        mp4.require_packages()
        if options.video != "auto":
            evaluation.find(options.video)
    closures = read_closures(options.phones) if options.phones else None
    rows = {**evaluation.models, **references(evaluation.constant())}
    clips = tqdm(evaluation.clips(), total=len(evaluation.entries), unit="clip", disable=None)
    results = score_predictors(clips, rows, closures)

    about = evaluation.about()
    print(f"{', '.join(about['data'])} ({options.split}, {about['clips']} clips), "
          f"hop {options.hop}, look-ahead {options.lookahead}; "
          "aligned, px of the 256 crop")  # fmt: skip
    print(metrics_table(summary_rows(results), ALIGNED))
    for note in evaluation.notes:
        print(note)
    latency: list[dict[str, Any]] = []
    if options.latency:
        latency = latency_sweep(evaluation.animators, evaluation.clips)
        print(f"\n{latency_table(latency)}")
    if options.table:
        print(f"\n{paper_table(evaluation, results)}")
    if out:
        try:
            write(evaluation, results, latency, out)
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error})") from None


def paper_table(evaluation: Evaluation, results: Mapping[str, Result]) -> str:
    """Table 1 or 2 with a row for each model, scored with the emotion neutral."""
    sources = ", ".join(c.header.source for c in evaluation.corpora)
    measured_on = f"{sources} ({evaluation.options.split})"
    animators = evaluation.animators
    if evaluation.options.table == 1:
        return table_1({name: results[name].row for name in animators}, measured_on)
    methods = {name: VARIANTS.get(x.engine.name, name) for name, x in animators.items()}
    count = Counter(methods.values())
    return table_2({
        method if count[method] == 1 else f"{method} ({name})": results[name].row
        for name, method in methods.items()
    }, measured_on)  # fmt: skip


def write(
    evaluation: Evaluation,
    results: Mapping[str, Result],
    latency: list[dict[str, Any]],
    out: Path,
) -> None:
    """Writes the files of --out."""
    about, options = evaluation.about(), evaluation.options
    summary = as_json(results, about, latency or None)
    (out / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False))
    text = markdown(results, about, latency_table(latency) if latency else None)
    (out / "summary.md").write_text(text, encoding="utf-8")
    write_csv(out / "scores.csv", csv_rows(results))
    if latency:
        write_csv(out / "latency.csv", latency)
        title = f"{', '.join(about['data'])} ({about['split']}, {about['clips']} clips)"
        draw_latency(latency, title, out / "latency.png")
    models = dict(list(evaluation.models.items())[:4])
    chosen = pick_clips(evaluation.corpora, options.split, max(2, 4 // len(models)))
    clips = [corpus.clip(entry) for corpus, entry in chosen]
    overlay = [OverlayRow(name, c, predict(c)) for c in clips for name, predict in models.items()]
    draw_overlay(overlay, out / "overlay.png")
    if options.video:
        name, predict = next(iter(models.items()))
        by_distance = sorted(results[name].clips, key=lambda c: c.metrics.m_ld)
        median = by_distance[len(by_distance) // 2].name
        clip = evaluation.find(median if options.video == "auto" else options.video)
        path = out / f"{clip.name.replace('/', '_')}.mp4"
        write_side_by_side(path, clip, predict(clip), name)


def main(argv: list[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-evaluate", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
