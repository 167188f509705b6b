"""Scores checkpoints on prepared corpora, beside faces that need no model::

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
from training.corpus.format import Corpus, of_side, open_corpora
from training.models.networks import engine_of
from training.scores import video as side_by_side
from training.scores.figures import Strip, draw_overlay, pick
from training.scores.latency import draw_latency, latency_table, sweep
from training.scores.legacy import AUTHORS_BATCH
from training.scores.paper_tables import VARIANTS, table_1, table_2
from training.scores.scoring import (
    Predict,
    Result,
    Row,
    evaluate,
    mean_displacement,
    predict_offline,
    predict_streamed,
    read_closures,
    references,
    score_all,
)
from training.scores.summary import (
    ALIGNED,
    as_json,
    figures_table,
    markdown,
    result_estimates,
    write_csv,
    write_lines,
)


def score_checkpoint(
    checkpoint: Path, clips: Iterable[Clip], hop: int = 3, lookahead: int = 3
) -> Row:
    """Means over the clips, the emotion neutral; ``m_ld`` ... ``f_lvd`` are aligned, in pixels.

    Raises :class:`~kfusion.errors.CheckpointError` and, without a clip, ``DataError``.
    """
    animator = Animator(engine_of(checkpoint))
    return evaluate(clips, lambda c: predict_offline(animator, c, hop, lookahead))[0]


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
    p.add_argument("--stream", action="store_true", help="feed 20 ms at a time, as a live session")
    p.add_argument("--latency", action="store_true", help="sweep hop and look-ahead")
    p.add_argument("--phones", type=Path, help="table of clip, start_s, end_s, phone")
    p.add_argument("--constant-from", type=Path, nargs="+", metavar="CORPUS",
                   help="whose training clips give the best constant; default: --data")  # fmt: skip
    p.add_argument("--legacy-batch", type=int, default=AUTHORS_BATCH,
                   help="windows in a batch of the legacy_* figures")  # fmt: skip
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
    if a.legacy_batch < 1:
        p.error(f"--legacy-batch is {a.legacy_batch}; wanted 1 or more")
    a.command = shlex.join(["python", "-m", "training.evaluate", *(argv or sys.argv[1:])])
    return a


@dataclass
class Task:
    """What is scored, opened: corpora, models by label, and notes on what could not be had."""

    a: argparse.Namespace
    corpora: list[Corpus]
    animators: dict[str, Animator]
    notes: list[str] = field(default_factory=list[str])

    @classmethod
    def open(cls, a: argparse.Namespace) -> Task:
        corpora = open_corpora(a.data)
        names = a.label or labels_of(a.checkpoint)
        return cls(a, corpora, {
            name: Animator(engine_of(path, a.device))
            for name, path in zip(names, a.checkpoint, strict=True)
        })  # fmt: skip

    def clips(self) -> Iterator[Clip]:
        for corpus, entry in of_side(self.corpora, self.a.split):
            yield corpus.clip(entry)

    @property
    def count(self) -> int:
        return len(of_side(self.corpora, self.a.split))

    def predictor(
        self, animator: Animator, hop: int, lookahead: int, *, emotion: bool = False
    ) -> Predict:
        predict = predict_streamed if self.a.stream else predict_offline
        return lambda clip: predict(animator, clip, hop, lookahead, emotion=emotion)

    @property
    def models(self) -> dict[str, Predict]:
        """The rows of the models; where clips are labelled also with the label given."""
        entries = of_side(self.corpora, self.a.split)
        labelled = any(e.emotion not in (None, "neutral") for _, e in entries)
        rows: dict[str, Predict] = {}
        for name, animator in self.animators.items():
            make = partial(self.predictor, animator, self.a.hop, self.a.lookahead)
            rows[name] = make()
            if labelled:
                rows[f"{name}, label given"] = make(emotion=True)
        return rows

    def constant(self) -> NDArray[np.float64] | None:
        """The best constant; None, noted, where the data has no training side."""
        named = self.a.constant_from
        corpora = open_corpora(named) if named else self.corpora
        if not named:
            corpora = [c for c in corpora if any(e.split == "train" for e in c.entries)]
        if not corpora:
            self.notes.append(
                "No row for the best constant: no clip here is of a training side "
                "(--constant-from names a corpus to take it from)."
            )
            return None
        clips = (clip for corpus in corpora for clip in corpus.clips("train"))
        return mean_displacement(tqdm(clips, desc="constant", unit="clip", disable=None))

    def find(self, name: str) -> Clip:
        for corpus, entry in of_side(self.corpora, self.a.split):
            if entry.name == name:
                return corpus.clip(entry)
        raise DataError(
            f"--video {name}: no {self.a.split} clip has this name; wanted one, or auto"
        )

    def about(self) -> dict[str, Any]:
        path = "streamed in chunks of 20 ms" if self.a.stream else "windows in batches"
        return {
            "command": self.a.command,
            "data": [c.header.source for c in self.corpora],
            "split": self.a.split,
            "clips": self.count,
            "checkpoints": {name: x.engine.sha256 for name, x in self.animators.items()},
            "hop": self.a.hop,
            "lookahead": self.a.lookahead,
            "path": path,
            "legacy_batch": self.a.legacy_batch,
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


def run(a: argparse.Namespace) -> None:
    task = Task.open(a)
    if a.out:
        try:
            a.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{a.out}: cannot be made ({error})") from None
    if a.video:
        mp4.check()
        if a.video != "auto":
            task.find(a.video)
    phones = read_closures(a.phones) if a.phones else None
    rows = {**task.models, **references(task.constant())}
    clips = tqdm(task.clips(), total=task.count, unit="clip", disable=None)
    results = score_all(clips, rows, phones, a.legacy_batch)

    about = task.about()
    print(f"{', '.join(about['data'])} ({a.split}, {about['clips']} clips), hop {a.hop}, "
          f"look-ahead {a.lookahead}, {about['path']}; aligned, px of the 256 crop")  # fmt: skip
    estimated = {name: result_estimates(result) for name, result in results.items()}
    print(figures_table(estimated, ALIGNED))
    for note in task.notes:
        print(note)
    lines = sweep(task.animators, task.clips, task.predictor) if a.latency else None
    if lines:
        print(f"\n{latency_table(lines)}")
    if a.table:
        print(f"\n{papers_table(task, results)}")
    if a.out:
        try:
            write(task, results, lines)
        except OSError as error:
            raise DataError(f"{a.out}: cannot be written ({error})") from None


def papers_table(task: Task, results: Mapping[str, Result]) -> str:
    """Table 1 or 2 with a row for each model, scored with the emotion neutral."""
    measured_on = f"{', '.join(c.header.source for c in task.corpora)} ({task.a.split})"
    if task.a.table == 1:
        return table_1({name: results[name].row for name in task.animators}, measured_on)
    named = {
        name: VARIANTS.get(animator.engine.name, name) for name, animator in task.animators.items()
    }
    alike = list(named.values())
    return table_2({
        method if alike.count(method) == 1 else f"{method} ({name})": results[name].row
        for name, method in named.items()
    }, measured_on)  # fmt: skip


def write(task: Task, results: Mapping[str, Result], lines: list[dict[str, Any]] | None) -> None:
    """Everything that --out gets."""
    out: Path = task.a.out
    about = task.about()
    whole = as_json(results, about, lines)
    (out / "summary.json").write_text(json.dumps(whole, indent=1, allow_nan=False))
    told = latency_table(lines) if lines else None
    (out / "summary.md").write_text(markdown(results, about, told), encoding="utf-8")
    write_csv(out / "scores.csv", results)
    if lines:
        write_lines(out / "latency.csv", lines)
        title = f"{', '.join(about['data'])} ({about['split']}, {about['clips']} clips)"
        draw_latency(lines, title, out / "latency.png")
    shown = dict(list(task.models.items())[:4])
    chosen = [c.clip(e) for c, e in pick(task.corpora, task.a.split, max(2, 4 // len(shown)))]
    strips = [Strip(name, clip, p(clip)) for clip in chosen for name, p in shown.items()]
    draw_overlay(strips, out / "overlay.png")
    if task.a.video:
        name, predict = next(iter(shown.items()))
        middle = sorted(results[name].each, key=lambda s: s.scores.m_ld)
        auto = task.a.video == "auto"
        clip = task.find(middle[len(middle) // 2].name if auto else task.a.video)
        path = out / f"{clip.name.replace('/', '_')}.mp4"
        side_by_side.write_side_by_side(path, clip, predict(clip), name)


def main(argv: list[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-evaluate", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
