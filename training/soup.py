"""Averages the weights of networks that were trained on from the same ones::

    python -m training.soup run-a/model.safetensors run-b/model.safetensors --out mean.safetensors

A model soup (Wortsman et al. 2022, arXiv 2203.05482): what one of them does better than the others
is kept in part, and it costs no more than one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kfusion.checkpoint import load_model, save_model
from kfusion.errors import CheckpointError, DataError
from kfusion.runtime import file_sha256
from training.program import ended


def soup(parts: Sequence[Path], shares: Sequence[float], out: Path, command: str = "") -> None:
    """Writes the mean of checkpoints, each weighed by its share; shares need not sum to 1. What was
    said of the first is said of the mean, and under ``mean`` what each part was.

    Raises :class:`~kfusion.errors.CheckpointError` for networks of different shapes.
    """
    total = sum(shares)
    read = [load_model(path) for path in parts]
    (mean, first), *_ = read
    state = {
        name: torch.zeros_like(v, dtype=torch.float64) for name, v in mean.state_dict().items()
    }
    for path, share, (model, _) in zip(parts, shares, read, strict=True):
        if model.config != mean.config:
            raise CheckpointError(f"{path}: is another network than {parts[0]}; wanted the same")
        for name, value in model.state_dict().items():
            state[name] += share / total * value.double()
    mean.load_state_dict(state)
    made: list[dict[str, Any]] = [
        {"share": share / total, "sha256": file_sha256(path), **of_one}
        for path, share, (_, of_one) in zip(parts, shares, read, strict=True)
    ]
    save_model(out, mean, {**first, "command": command, "mean": made})


def run(a: argparse.Namespace) -> None:
    shares: list[float] = a.shares or [1.0] * len(a.parts)
    if len(shares) != len(a.parts) or min(shares) < 0 or not sum(shares) > 0:
        wanted = f"wanted {len(a.parts)} numbers from 0 on, not all 0"
        raise DataError(f"--shares {' '.join(map(str, shares))}; {wanted}")
    soup(a.parts, shares, a.out, a.command)
    print(f"{a.out}: the mean of {len(a.parts)}")


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("parts", type=Path, nargs="+", metavar="CHECKPOINT")
    p.add_argument("--shares", type=float, nargs="+", metavar="SHARE", help="default: all alike")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    a.command = shlex.join(["python", "-m", "training.soup", *given])
    return ended("training.soup", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
