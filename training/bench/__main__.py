"""Measures what runs, on this machine::

    python -m training.bench model [--presets compact paper] [--batches 1 4 16 64] [--json OUT.json]
    python -m training.bench train [--steps 60] [-- --batch 64 ...]

A time alone says little: beside each cell stands a float32 matrix product, measured in turns with
it so that a busy or throttled machine slows both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from kfusion.config import PRESETS
from kfusion.errors import KFusionError
from kfusion.runtime import WEIGHTS
from training.bench.engine import ENGINES, checkpoints
from training.bench.memory import own_peak
from training.bench.model import measure
from training.bench.report import chart, table
from training.bench.train import training_table


def model(a: argparse.Namespace) -> int:
    device = a.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        files = checkpoints(a.presets, Path(folder))
        report = measure(files, a.engines, a.batches, a.threads, a.seconds, device)
    print(table(report))
    if a.json:
        a.json.write_text(json.dumps(asdict(report), indent=1) + "\n")
    if a.chart:
        chart(report, a.chart)
    return 0


def training(a: argparse.Namespace) -> int:
    print(training_table(a.steps, a.options))
    return 0


def memory(a: argparse.Namespace) -> int:
    print(json.dumps({"peak_mib": own_peak(a.checkpoint, a.engine, a.batch, a.threads, a.device)}))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m training.bench", description=__doc__)
    what = p.add_subparsers(required=True, metavar="WHAT")
    m = what.add_parser("model", help="speed, work and memory of a step")
    m.set_defaults(run=model)
    m.add_argument("--presets", nargs="+", default=list(PRESETS), help="of " + ", ".join(PRESETS))
    m.add_argument("--engines", nargs="+", default=list(ENGINES), help="of " + ", ".join(ENGINES))
    m.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    m.add_argument("--threads", type=int, default=2)
    m.add_argument("--seconds", type=float, default=3.0, help="of measuring, a cell")
    m.add_argument("--device", default="auto", help="of torch: auto, cpu or cuda")
    m.add_argument("--json", type=Path, metavar="OUT.json")
    m.add_argument("--chart", type=Path, metavar="OUT.png")
    t = what.add_parser("train", help="windows a second of training, and the loader's share")
    t.set_defaults(run=training)
    t.add_argument("--steps", type=int, default=60, help="measured, after ten more")
    t.add_argument("options", nargs="*", help="-- options of training.train")
    r = what.add_parser("memory", help="of one cell alone, as `model` measures it")
    r.set_defaults(run=memory)
    r.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    r.add_argument("--engine", choices=ENGINES, default="torch")
    r.add_argument("--batch", type=int, default=1)
    r.add_argument("--threads", type=int, default=2)
    r.add_argument("--device", default="cpu")
    a = p.parse_args(arguments)
    try:
        return a.run(a)
    except KFusionError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
