"""Scores a checkpoint on tracked clips, beside faces that never move::

python -m training.evaluate --data DIR --checkpoint runs/compact/model.safetensors
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion.errors import KFusionError
from kfusion.landmarks import align, lip_gap, to_canonical
from kfusion.runtime import WEIGHTS, Animator, make_engine
from training.data import Clip, read_folder
from training.metrics import Scores, aligned, closure_recall, score_aligned

Row = dict[str, float]
COLUMNS = ("m_ld", "m_lvd", "f_ld", "f_lvd", "correlation", "gain", "abs_lag", "closure")


def predict_offline(
    animator: Animator, clip: Clip, hop: int, lookahead: int
) -> NDArray[np.float32]:
    """The clip's frames on the clip's own identity, in pixels of its crop."""
    return animator.animate(
        clip.audio, 16_000, identity=clip.identity, hop=hop, lookahead=lookahead
    )


def mean_displacement(clips: Iterable[Clip]) -> NDArray[np.float64]:
    """The best constant: the mean over a set's frames, canonical pixels (68, 2)."""
    total, count = np.zeros((68, 2)), 0
    for clip in clips:
        identity = clip.identity
        forward = to_canonical(identity)
        moved = align(clip.at_30fps(), identity) - identity
        total += forward.apply_vectors(moved).sum(axis=0)
        count += len(moved)
    return total / count


def still(clip: Clip, displacement: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """A face that holds one displacement (canonical) all clip long."""
    back = to_canonical(clip.identity).inverse
    face = clip.identity + (
        back.apply_vectors(displacement) if isinstance(displacement, np.ndarray) else 0.0
    )
    return np.repeat(face[None], len(clip.at_30fps()), axis=0)


def floor(clip: Clip) -> NDArray[np.float64]:
    """The truth rounded to whole pixels."""
    return np.round(clip.at_30fps())


def evaluate(
    clips: list[Clip],
    predict: Callable[[Clip], NDArray[Any]],
    phones: dict[str, list[tuple[float, float]]] | None = None,
) -> tuple[Row, list[tuple[str, Scores]]]:
    """Means over clips, and each clip's scores. ``phones``: spans of p, b, m by clip."""
    each: list[tuple[str, Scores]] = []
    found = there = 0
    for clip in clips:
        predicted, truth = aligned(predict(clip), clip.at_30fps(), clip.identity)
        each.append((clip.name, score_aligned(predicted, truth, clip.identity)))
        if phones and clip.name in phones:
            f, t = closure_recall(lip_gap(predicted), lip_gap(truth), phones[clip.name])
            found, there = found + f, there + t
    names = [k for k in asdict(each[0][1]) if k != "lag"]
    row = {k: float(np.nanmean([getattr(s, k) for _, s in each])) for k in names}
    row["abs_lag"] = float(np.mean([abs(s.lag) for _, s in each]))
    row["max_abs_lag"] = float(max(abs(s.lag) for _, s in each))
    row["closure"] = found / there if there else float("nan")
    return row, each


def read_phones(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Spans (s) of P, B and M by clip, from a table of clip, start_s, end_s, phone."""
    spans: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["phone"] in ("P", "B", "M"):
                span = (float(row["start_s"]), float(row["end_s"]))
                spans.setdefault(row["clip"], []).append(span)
    return spans


def table(rows: dict[str, Row]) -> str:
    """Markdown."""
    head = ["", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        cells = [f"{row[c]:.3f}" if np.isfinite(row[c]) else "" for c in COLUMNS]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(prog="kfusion-evaluate", description=__doc__)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--split", choices=["train", "validation", "all"], default="validation")
    p.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    p.add_argument("--hop", type=int, default=3)
    p.add_argument("--lookahead", type=int, default=3)
    p.add_argument("--phones", type=Path, help="table of clip, start_s, end_s, phone")
    p.add_argument("--constant-from", type=Path, help="folder whose training mean is the constant")
    p.add_argument("--json", type=Path, help="write the figures here")
    a = p.parse_args()
    try:
        animator = Animator(make_engine("torch", a.checkpoint))
        clips = read_folder(a.data, a.split)
        phones = read_phones(a.phones) if a.phones else None
        rows: dict[str, Row] = {}
        rows["model"], _ = evaluate(
            clips,
            lambda c: predict_offline(animator, c, a.hop, a.lookahead),
            phones,
        )
        rows["copy identity"], _ = evaluate(clips, lambda c: still(c, 0.0), phones)
        if a.constant_from:
            constant = mean_displacement(tqdm(read_folder(a.constant_from, "train")))
            rows["best constant"], _ = evaluate(clips, lambda c: still(c, constant), phones)
        rows["floor"], _ = evaluate(clips, floor, phones)
    except KFusionError as error:
        print(f"kfusion-evaluate: {error}", file=sys.stderr)
        return 2
    print(f"{a.data.name} ({a.split}, {len(clips)} clips), hop {a.hop}, lookahead {a.lookahead}")
    print(table(rows))
    if a.json:
        a.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
