"""Scores checkpoints on prepared corpora, beside faces that need no model::

    python -m training.evaluate --data corpora/mead --checkpoint runs/mine/model.safetensors
        --out scores/ --latency --video auto --table 1

--modes are pairs of hop and look-ahead in frames; 30/0 is the paper's. Of several checkpoints the
others are compared with the first. --table writes the paper's table with the checkpoints' rows. A
corpus of which nothing was trained on is scored with --split all, and --constant-from names the
corpus that the best constant is of.

--out gets summary.md, summary.json, scores.csv (a line a clip and row) and overlay.png; with
--latency also latency.csv and latency.png, with --video a side-by-side video with sound.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion import __version__, mp4
from kfusion.errors import DataError, run_command
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, Animator
from training.corpus.clips import Clip
from training.corpus.format import Corpus, Entry, open_corpora, select_entries
from training.models.networks import NetworkEngine, load_engine
from training.scores.branches import BranchShare, branch_shares
from training.scores.comparison import Difference, comparisons
from training.scores.latency import draw_latency, latency_sweep
from training.scores.modes import DEFAULT, Mode, parse_mode, with_labels
from training.scores.overlay import OverlayRow, draw_overlay, pick_clips
from training.scores.paper_tables import MeasuredRow, paper_table
from training.scores.scoring import (
    Model,
    Result,
    mean_displacement,
    read_closures,
    references,
    score_predictors,
)
from training.scores.side_by_side import write_side_by_side
from training.scores.summary import Summary, csv_rows
from training.scores.tables import write_csv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def open_animator(checkpoint: Path, device: str = DEVICE) -> Animator:
    """Any checkpoint that training wrote, in float32.

    Raises :class:`~kfusion.errors.CheckpointError`, and ``DataError`` for a device that is not
    there.
    """
    torch.backends.cudnn.allow_tf32 = False  # its error depends on the rows of a batch
    try:
        return Animator(load_engine(checkpoint, device))
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"device {device!r} cannot be used: {error}") from None


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
    p.add_argument("--modes", type=parse_mode, nargs="+", default=list(DEFAULT),
                   metavar="HOP/LOOKAHEAD", help="frames; by default 30/0 and 3/3")  # fmt: skip
    p.add_argument("--constant-from", type=Path, nargs="+", metavar="CORPUS",
                   help="of whose training side the best constant is, else --data")  # fmt: skip
    p.add_argument("--branches", action="store_true", help="what each branch of a KFusion adds")
    p.add_argument("--latency", action="store_true", help="sweep hop and look-ahead")
    p.add_argument("--phones", type=Path, help="table of clip, start_s, end_s, phone")
    p.add_argument("--table", type=int, choices=[1, 2], help="the paper's, with our rows")
    p.add_argument("--out", type=Path, metavar="DIR")
    p.add_argument("--video", metavar="CLIP", help="a clip's name, or auto: one of median M-LD")
    p.add_argument("--device", default=DEVICE)
    return p


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = parser()
    a = p.parse_args(argv)
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
            name: open_animator(path, options.device)
            for name, path in zip(names, options.checkpoint, strict=True)
        }
        return cls(options, corpora, select_entries(corpora, options.split), animators)

    def clips(self) -> Iterator[Clip]:
        return (corpus.clip(entry) for corpus, entry in self.entries)

    @property
    def modes(self) -> list[Mode]:
        """Those of --modes, where clips are labelled also with the label given."""
        return with_labels(self.options.modes, (e.emotion for _, e in self.entries))

    @property
    def models(self) -> dict[str, Model]:
        """The rows of the models: each in each mode."""
        return {
            f"{name}, {mode}": Model(animator, mode.hop, mode.lookahead, mode.labelled)
            for name, animator in self.animators.items()
            for mode in self.modes
        }

    def constant(self) -> NDArray[np.float64] | None:
        """The best constant; None, noted, where the data has no training side."""
        given = self.options.constant_from
        source = open_corpora(given) if given else self.corpora
        corpora = [c for c in source if any(e.split == "train" for e in c.entries)]
        if not corpora and given:
            raise DataError(
                f"--constant-from {' '.join(map(str, given))}: no train clips; wanted a corpus "
                "that a network is trained on"
            )
        if not corpora:
            self.notes.append("No row for the best constant: no clip here is of a training side.")
            return None
        clips = (clip for corpus in corpora for clip in corpus.clips("train"))
        return mean_displacement(tqdm(clips, desc="constant", unit="clip", disable=None))

    def comparisons(
        self, results: Mapping[str, Result]
    ) -> dict[str, dict[str, dict[str, Difference]]]:
        """Of several models the others with the first, in each mode."""
        found: dict[str, dict[str, dict[str, Difference]]] = {}
        first = next(iter(self.animators))
        for mode in self.modes if len(self.animators) > 1 else []:
            rows = {name: [results[f"{name}, {mode}"].clips] for name in self.animators}
            found[f"{first}, {mode}"] = comparisons(rows, first)
        return found

    def table(self, results: Mapping[str, Result]) -> tuple[int, list[list[str]]] | None:
        """The number of the paper's table, and its cells with a row for each model and mode."""
        number = self.options.table
        if not number:
            return None
        sources = ", ".join(c.header.source for c in self.corpora)
        rows: list[MeasuredRow] = []
        for name, animator in self.animators.items():
            for mode in self.modes:
                figures = results[f"{name}, {mode}"].row
                rows.append(MeasuredRow(name, animator.engine.name, mode, figures))
        return number, paper_table(number, rows, f"{sources} ({self.options.split})")

    def branches(self) -> dict[str, list[BranchShare]]:
        """What each branch of the KFusions adds, in each mode. DataError where there is none."""
        networks = {
            name: animator.engine.network
            for name, animator in self.animators.items()
            if isinstance(animator.engine, NetworkEngine)
            and isinstance(animator.engine.network, KFusion)
        }
        if not networks:
            raise DataError("--branches: no checkpoint is a KFusion; wanted one")
        return {
            f"{name}, {mode}": branch_shares(
                network, self.clips, mode.hop, mode.lookahead, labelled=mode.labelled
            )
            for name, network in networks.items()
            for mode in self.modes
        }

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
            "modes": list(map(str, self.modes)),
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

    latency = latency_sweep(evaluation.animators, evaluation.clips) if options.latency else []
    summary = Summary(
        results, evaluation.about(), evaluation.comparisons(results), evaluation.table(results),
        latency, evaluation.branches() if options.branches else {},
    )  # fmt: skip
    about = summary.about
    print(f"{', '.join(about['data'])} ({options.split}, {about['clips']} clips); "
          "aligned, px of the 256 crop")  # fmt: skip
    print(summary.short)
    if out:
        try:
            write(evaluation, summary, out)
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error})") from None


def write(evaluation: Evaluation, summary: Summary, out: Path) -> None:
    """Writes the files of --out."""
    about, options = summary.about, evaluation.options
    (out / "summary.json").write_text(json.dumps(summary.json, indent=1, allow_nan=False))
    (out / "summary.md").write_text(summary.markdown, encoding="utf-8")
    write_csv(out / "scores.csv", csv_rows(summary.results))
    if summary.latency:
        write_csv(out / "latency.csv", summary.latency)
        title = f"{', '.join(about['data'])} ({about['split']}, {about['clips']} clips)"
        draw_latency(summary.latency, title, out / "latency.png")
    models = dict(list(evaluation.models.items())[:4])
    chosen = pick_clips(evaluation.corpora, options.split, max(2, 4 // len(models)))
    clips = [corpus.clip(entry) for corpus, entry in chosen]
    overlay = [OverlayRow(name, c, predict(c)) for c in clips for name, predict in models.items()]
    draw_overlay(overlay, out / "overlay.png")
    if options.video:
        name, predict = next(iter(models.items()))
        by_distance = sorted(summary.results[name].clips, key=lambda c: c.metrics.m_ld)
        median = by_distance[len(by_distance) // 2].name
        clip = evaluation.find(median if options.video == "auto" else options.video)
        path = out / f"{clip.name.replace('/', '_')}.mp4"
        write_side_by_side(path, clip, predict(clip), name)


def main(argv: list[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-evaluate", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
