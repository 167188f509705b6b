"""Trains a KFusion network on folders of tracked clips::

    python -m training.train --data DIR [DIR ...] --out runs/compact

Read it from top to bottom: arguments, data, network, the loop. A run saves itself every few
minutes and goes on where it stopped when started again with the same --out.
"""

from __future__ import annotations

import argparse
import csv
import math
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from kfusion.checkpoint import save_model
from kfusion.config import PRESETS
from kfusion.errors import DataError, KFusionError
from kfusion.kan import KAN
from kfusion.model import KFusion
from training.data import PLAIN, Augmentation, Batch, Clip, Windows, fingerprint, read_folder
from training.losses import LossWeights, loss


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="kfusion-train", description=__doc__)
    p.add_argument("--data", type=Path, nargs="+", required=True, help="folders of tracked clips")
    p.add_argument("--out", type=Path, required=True, help="folder of the run")
    p.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    p.add_argument("--wav2vec2", default="facebook/wav2vec2-base", help="hub name or local folder")
    p.add_argument("--finetune", action="store_true", help="train wav2vec2 too")
    p.add_argument("--steps", type=int, default=7000)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--warmup", type=int, default=300)
    p.add_argument("--weight-decay", type=float, default=0.02)
    p.add_argument("--ema", type=float, default=0.999)
    p.add_argument("--vtlp", type=float, default=0.12, help="range of mel-axis stretching")
    p.add_argument("--kan-l1", type=float, default=0.0, help="weight of the KAN's sparsification")
    p.add_argument("--kan-grid-at", type=int, default=0, help="step that fits its grids to data")
    p.add_argument("--plain", action="store_true", help="no augmentation")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--save-every", type=int, default=250, help="steps")
    p.add_argument("--licence", default="", help="a note on the data, kept in the checkpoint")
    return p.parse_args(argv)


def learning_rate(step: int, a: argparse.Namespace) -> float:
    """Linear warm-up, then cosine annealing to 1e-6."""
    if step < a.warmup:
        return a.lr * (step + 1) / a.warmup
    share = (step - a.warmup) / max(1, a.steps - a.warmup)
    return 1e-6 + (a.lr - 1e-6) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def to_device(batch: Batch, device: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(part).to(device) for name, part in vars(batch).items()}


def evaluate_windows(
    model: KFusion, windows: Windows, weights: LossWeights, device: str
) -> dict[str, float]:
    """Mean loss terms over 16 fixed batches."""
    model.eval()
    sums: dict[str, float] = {}
    with torch.inference_mode():
        for step in range(16):
            b = to_device(windows.batch(32, 0, step), device)
            y = model.displacement(b["audio"], b["identity"], b["emotion"])
            unit = model.config.unit_px
            for k, v in loss(y / unit, b["target"] / unit, b["mask"], weights).items():
                sums[k] = sums.get(k, 0.0) + float(v) / 16
    return sums


def train(a: argparse.Namespace) -> Path:
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)

    # Data
    def clips_of(split: str) -> list[Clip]:
        return [clip for folder in a.data for clip in read_folder(folder, split)]

    training, validation = clips_of("train"), clips_of("validation")
    windows = Windows(training, PLAIN if a.plain else Augmentation())
    held_out = Windows(validation, PLAIN)
    provenance: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "training.train", *sys.argv[1:]]),
        "data": [folder.name for folder in a.data],
        "clips": len(training),
        "sha256": fingerprint(training),
        "split": "by clip: sha256(name)[0] < 26 is validation",
        "seed": a.seed,
        "licence": a.licence,
    }
    print(f"{len(training)} clips to train on, {len(validation)} held out", flush=True)

    # Network
    torch.manual_seed(a.seed)
    config = replace(PRESETS[a.preset], freeze_wav2vec2=not a.finetune)
    if config.content == "wav2vec2":
        model = KFusion.with_wav2vec2(config, a.wav2vec2).to(a.device)
    else:
        model = KFusion(config).to(a.device)
    if model.mel is not None:
        model.mel.vtlp = 0.0 if a.plain else a.vtlp
    average = KFusion(model.config).to(a.device).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=a.weight_decay)
    fused: list[torch.Tensor] = []  # what the KAN was given in the last step, (B, 30, 136)
    model.head.register_forward_pre_hook(lambda _, given: fused.__setitem__(slice(None), given))
    weights = LossWeights()
    unit = model.config.unit_px
    first = 0
    state_file = a.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=a.device, weights_only=True)
        if state["sha256"] != provenance["sha256"]:
            raise DataError(f"{a.out}: was started on other data; wanted the same, or a new --out")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
        print(f"going on from step {first}", flush=True)

    def save_state(step: int) -> None:
        partial = state_file.with_suffix(".partial")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "sha256": provenance["sha256"],
            },
            partial,
        )
        partial.replace(state_file)
        save_model(a.out / "model.safetensors", average, {**provenance, "steps": step})

    # The loop
    began = time.monotonic()
    for step in tqdm(range(first, a.steps), initial=first, total=a.steps, mininterval=10):
        b = to_device(windows.batch(a.batch, a.seed, step), a.device)
        torch.manual_seed(a.seed * 1_000_003 + step)  # dropout and VTLP: a function of the step
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, a)
        model.train()
        y = model.displacement(b["audio"], b["identity"], b["emotion"])
        terms = loss(y / unit, b["target"] / unit, b["mask"], weights)
        if a.kan_l1 and isinstance(model.head, KAN):
            terms["total"] = terms["total"] + a.kan_l1 * model.head.regularisation(
                fused[0].flatten(0, 1)[::8]
            )
        if not torch.isfinite(terms["total"]):
            raise DataError(f"step {step}: the loss is not finite; seed {a.seed} repeats it")
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(a.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
            if step + 1 == a.kan_grid_at and isinstance(model.head, KAN):
                # New grids carry new coefficients: the average and the moments begin anew there.
                model.head.update_grid(fused[0].flatten(0, 1))
                average.head.load_state_dict(model.head.state_dict())
                for parameter in model.head.parameters():
                    optimizer.state.pop(parameter, None)
        if (step + 1) % a.save_every == 0 or step + 1 == a.steps:
            save_state(step + 1)
            check = evaluate_windows(average, held_out, weights, a.device)
            with (a.out / "log.csv").open("a", newline="") as log:
                seconds = f"{time.monotonic() - began:.0f}"
                csv.writer(log).writerow(
                    [step + 1, seconds, *(f"{k}={v:.5f}" for k, v in check.items())]
                )
            tqdm.write(f"{step + 1}: " + " ".join(f"{k} {v:.4f}" for k, v in check.items()))
    return a.out / "model.safetensors"


def main() -> int:
    np.seterr(all="raise", under="ignore")
    try:
        path = train(arguments())
    except KFusionError as error:
        print(f"kfusion-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; start again with the same --out to go on", file=sys.stderr)
        return 130
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
