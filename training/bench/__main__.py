"""Measures the speed of networks and of training on this machine::

    python -m training.bench model [--presets compact paper] [--batches 1 4 16 64]
    python -m training.bench train [--steps 60] [-- --batch 64 ...]

A time alone says little: beside each cell stands a float32 matrix product, measured in turns with
it so that a busy or throttled machine slows both.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from kfusion.config import PRESETS
from kfusion.errors import run_command
from training.bench.engine import ENGINES, checkpoints
from training.bench.model import model_tables
from training.bench.train import training_table


def bench_model(options: argparse.Namespace) -> None:
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        files = checkpoints(options.presets, Path(folder))
        print(
            model_tables(
                files, options.engines, options.batches, options.threads, options.seconds, device
            )
        )


def bench_training(options: argparse.Namespace) -> None:
    print(training_table(options.steps, options.options))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.bench", description=__doc__)
    commands = p.add_subparsers(required=True, metavar="WHAT")
    m = commands.add_parser("model", help="speed, work and memory of a step")
    m.set_defaults(run=bench_model)
    m.add_argument("--presets", nargs="+", default=list(PRESETS), help="of " + ", ".join(PRESETS))
    m.add_argument("--engines", nargs="+", default=list(ENGINES), help="of " + ", ".join(ENGINES))
    m.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    m.add_argument("--threads", type=int, default=2)
    m.add_argument("--seconds", type=float, default=3.0, help="of measuring, a cell")
    m.add_argument("--device", default="auto", help="of torch: auto, cpu or cuda")
    t = commands.add_parser("train", help="windows a second of training, and the loader's share")
    t.set_defaults(run=bench_training)
    t.add_argument("--steps", type=int, default=60, help="measured, after ten more")
    t.add_argument("options", nargs="*", help="-- options of training.train")
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    return run_command("bench", lambda: options.run(options))


if __name__ == "__main__":
    raise SystemExit(main())
