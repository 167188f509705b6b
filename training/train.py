"""Trains a network on prepared corpora::

    python -m training.train --data corpora/mead --out runs/mead
    torchrun --nproc-per-node 4 -m training.train --data corpora/mead --out runs/mead

The defaults are the paper's: 200 epochs, mean square error, Adam at 3e-4 annealed by a cosine to
1e-6. Better choices are options. Read it from top to bottom: options, then :func:`train`: data,
network, the loop. A run saves itself as it goes, on Ctrl-C too, and goes on with the same bits
when started again with the same --out. Options may stand in a file, one a line: @FILE.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from kfusion import __version__
from kfusion.config import PRESETS, ModelConfig
from kfusion.errors import DataError, KFusionError
from kfusion.layers.kan import KAN
from kfusion.model import KFusion
from kfusion.system import file_sha256
from training.corpus.format import fingerprint, open_corpora
from training.data.augment import ON, PLAIN, parse_augmentation
from training.data.batch import Batch
from training.data.windows import Windows, loader
from training.distributed import Processes
from training.models.baselines import Baseline
from training.models.losses import LossWeights, loss, phone_loss
from training.models.networks import (
    ABLATIONS,
    BASELINES,
    CHOICES,
    Network,
    build,
    load_network,
    save_network,
)
from training.phones import PHONES
from training.run import Run

LEAST_RATE: Final = 1e-6
"""The learning rate that the cosine ends at."""


class Diverged(KFusionError):
    """The loss is no longer a number."""


class _Parser(argparse.ArgumentParser):
    """Reads @FILE as a shell would: several options a line, # comments."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return shlex.split(arg_line, comments=True)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = _Parser(
        prog="kfusion-train", description=__doc__, fromfile_prefix_chars="@",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    p.add_argument("--data", type=Path, nargs="+", required=True,
                   help="prepared corpora; one named twice counts twice")  # fmt: skip
    p.add_argument("--out", type=Path, required=True, help="folder of the run")
    g = p.add_argument_group("network")
    g.add_argument("--network", choices=[*ABLATIONS, *CHOICES, *BASELINES], default="kfusion")
    g.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    g.add_argument("--wav2vec2", default="facebook/wav2vec2-base", help="hub name or local folder")
    g.add_argument("--init", type=Path, help="a checkpoint to begin from, with its network")
    g.add_argument("--finetune", action="store_true", help="train wav2vec2 too")
    g.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE",
                   help="of kfusion.config.ModelConfig, instead of the preset's")  # fmt: skip
    g.add_argument("--kan-l1", type=float, default=0.0, help="weight of the KAN's sparsification")
    g.add_argument("--kan-grid-at", type=int, default=0, help="step that fits its grids to data")
    g = p.add_argument_group("loss")
    g.add_argument("--mouth", type=float, default=1.0, help="weight of a mouth point")
    g.add_argument("--velocity", type=float, default=0.0, help="weight of frame-to-frame change")
    g.add_argument("--gap", type=float, default=0.0, help="weight of the inner-lip gap")
    g.add_argument("--width", type=float, default=0.0, help="weight of the mouth's width")
    g.add_argument("--late", type=float, default=1.0, help="weight of a frame from the 19th on")
    g.add_argument("--swing", type=float, default=0.0, help="weight of the gap's deviation")
    g.add_argument("--phones", type=float, default=0.0, help="weight of hearing phones as well")
    g = p.add_argument_group("optimisation")
    g.add_argument("--epochs", type=int, default=200)
    g.add_argument("--steps", type=int, help="end after as many, instead of --epochs")
    g.add_argument("--batch", type=int, default=32, help="windows a step and process")
    g.add_argument("--lr", type=float, default=3e-4)
    g.add_argument("--warmup", type=int, default=0, help="steps of linear rise")
    g.add_argument("--weight-decay", type=float, default=0.0, help="decoupled, as in AdamW")
    g.add_argument("--clip", type=float, default=0.0, help="largest norm of the gradient")
    g.add_argument("--ema", type=float, default=0.0, help="save an average that decays so")
    g = p.add_argument_group("data")
    g.add_argument("--augment", nargs="*", default=[], metavar="NAME", help=", ".join(ON))
    g.add_argument("--by-level", action="store_true", help="level 1 is a third of an emotion")
    g.add_argument("--wider", type=float, default=0.0,
                   help="lips of dubbed faces part by so much more")  # fmt: skip
    g.add_argument("--seed", type=int, default=1)
    g = p.add_argument_group("machine")
    g.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    g.add_argument("--bf16", action="store_true", help="bfloat16 where autocast allows")
    g.add_argument("--threads", type=int, default=0, help="of the CPU; 0: torch's choice")
    g.add_argument("--workers", type=int, help="loader processes; on the CPU 0, else 8")
    g.add_argument("--save-every", type=int, default=250, help="steps")
    g.add_argument("--licence", default="", help="a note on the data, kept in the checkpoint")
    a = p.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    a.command = shlex.join(["python", "-m", "training.train", *given])
    return a


def configured(config: ModelConfig, fields: list[str]) -> ModelConfig:
    """The configuration with ["dropout=0", "lstm_width=192", ...] set, values in JSON or as they
    stand.

    Raises :class:`~kfusion.errors.CheckpointError` for an unknown field or a wrong type.
    """
    values = config.to_dict()
    for field in fields:
        name, _, text = field.partition("=")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return ModelConfig.from_dict(values)


MACHINE: Final = ("out", "device", "threads", "workers", "save_every", "licence", "data", "command")
"""Options that a run may go on under other values of."""


def learning_rate(step: int, steps: int, a: argparse.Namespace) -> float:
    """Linear warm-up, then cosine annealing to 1e-6."""
    if step < a.warmup:
        return a.lr * (step + 1) / a.warmup
    share = (step - a.warmup) / max(1, steps - a.warmup)
    return LEAST_RATE + (a.lr - LEAST_RATE) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class Student(nn.Module):
    """The network as data-parallel training wants it: a forward of the whole batch, to
    displacements and, where it learns to name phones too, to their logits (B, S, 40).

    What names them is a linear layer on the Content Domain's script; it is not kept afterwards.
    """

    def __init__(self, network: Network, *, phones: bool) -> None:
        super().__init__()
        self.network, self.phones = network, None
        if phones:
            if not isinstance(network, KFusion) or network.config.content != "mel":
                raise DataError("--phones is for the Content Domain of a preset without wav2vec2")
            self.phones = nn.Linear(network.config.width, len(PHONES))
            network.content_domain.script.register_forward_hook(self._keep)
        self._script: list[Tensor] = []

    def _keep(self, _: nn.Module, __: object, script: Tensor) -> None:
        self._script[:] = [script]

    def forward(self, b: Batch) -> tuple[Tensor, Tensor | None]:
        y = self.network.displacement(b.audio, b.identity, b.emotion, b.stretch)
        return y, None if self.phones is None else self.phones(self._script.pop())


@dataclass(frozen=True)
class Trained:
    """Where the weights are, and what this call did: steps, the seconds that they took, and those
    of them spent waiting for the loader.
    """

    checkpoint: Path
    steps: int
    windows: int
    seconds: float
    waited: float


def train(a: argparse.Namespace) -> Trained:
    if a.threads:
        torch.set_num_threads(a.threads)
    with Processes.joined(a.device) as processes:
        return _train(a, processes)


def _train(a: argparse.Namespace, processes: Processes) -> Trained:
    device = processes.device

    # Data
    corpora = open_corpora(a.data)
    windows = Windows(
        corpora, "train", parse_augmentation(a.augment), a.seed, by_level=a.by_level, wider=a.wider
    )
    validates = any(e.split == "validation" for c in corpora for e in c.entries)
    held_out = Windows(corpora, "validation", PLAIN, by_level=a.by_level) if validates else None
    rows = a.batch * processes.world
    steps = a.steps or math.ceil(a.epochs * len(windows) / rows)
    provenance: dict[str, Any] = {
        "command": a.command,
        "data": [folder.name for folder in a.data],
        "clips": len(windows.clips),
        "sha256": fingerprint(clip.entry for clip in windows.clips),
        "split": [f"{c.folder.name}: by {c.header.split_by}" for c in corpora],
        "licence": a.licence,
    }
    settings: dict[str, Any] = {k: v for k, v in vars(a).items() if k not in MACHINE}
    settings["init"] = file_sha256(a.init) if a.init else None
    settings |= {"rows": rows, "sha256": provenance["sha256"]}

    # Network
    torch.manual_seed(a.seed)
    begun = load_network(a.init)[0] if a.init else None
    config = begun.config if begun else PRESETS[a.preset]
    config = configured(replace(config, freeze_wav2vec2=not a.finetune), a.set)
    if begun:
        network = type(begun)(config)
        network.load_state_dict(begun.state_dict())
    else:
        network = build(a.network, config, a.wav2vec2)
    network.to(device)
    unit = network.config.unit_px
    if isinstance(network, Baseline) and not a.init:
        some = torch.cat([windows.batch(32, step).target for step in range(16)])
        network.fit(some.flatten(2).flatten(0, 1).to(device) / unit)
    average = build_like(network).to(device) if a.ema else network
    student: nn.Module = Student(network, phones=a.phones > 0).to(device)
    optimizer = torch.optim.AdamW(
        [p for p in student.parameters() if p.requires_grad],
        lr=a.lr,
        weight_decay=a.weight_decay,  # 0: plain Adam
        fused=True,
    )
    fused: list[Tensor] = []  # what the KAN was given in the last step, (B, 30, 136)
    kan = network.head if hasattr(network, "head") else None
    if isinstance(kan, KAN):
        kan.register_forward_pre_hook(lambda _, given: fused.__setitem__(slice(None), given))
    parallel = DistributedDataParallel(student) if processes.world > 1 else student
    weights = LossWeights(a.mouth, a.velocity, a.gap, a.width, a.late, a.swing)

    # Where it was
    run = Run(a.out, settings, device, writes=processes.rank == 0)
    parts = {"student": student, "average": average, "optimizer": optimizer}
    first = run.restore(**parts)
    if processes.rank == 0:
        print(
            f"{len(windows.clips)} clips, {len(windows)} windows an epoch to train on, "
            f"{len(held_out.clips) if held_out else 0} clips held out; "
            f"step {first} of {steps}, {rows} windows each",
            flush=True,
        )
    batches = iter(
        loader(
            windows, a.batch, range(first, steps), rank=processes.rank, world=processes.world,
            workers=(8 if device.startswith("cuda") else 0) if a.workers is None else a.workers,
            pin=device.startswith("cuda"),
        )
    )  # fmt: skip

    # The loop
    seconds, waited, step = 0.0, 0.0, first
    with _until_stopped() as stopped, run:
        progress = tqdm(initial=first, total=steps, mininterval=5, disable=processes.rank > 0)
        while step < steps:
            asked = time.monotonic()
            b = next(batches).to(device)
            waited += time.monotonic() - asked
            torch.manual_seed((a.seed * 1_000_003 + step) * processes.world + processes.rank)
            rate = learning_rate(step, steps, a)
            for group in optimizer.param_groups:
                group["lr"] = rate

            parallel.train()
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=a.bf16):
                y, logits = parallel(b)
            terms = loss(y / unit, b.target / unit, b.mask, weights)
            if logits is not None:
                terms["phones"] = phone_loss(logits, b.phones)
                terms["total"] = terms["total"] + a.phones * terms["phones"]
            if a.kan_l1 and isinstance(kan, KAN):
                sparse = kan.regularisation(fused[0].float().flatten(0, 1)[::8])
                terms["total"] = terms["total"] + a.kan_l1 * sparse
            if not torch.isfinite(terms["total"]):
                raise Diverged(_diverged(step, float(terms["total"].detach()), y, b, windows))
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            if a.clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), a.clip)
            optimizer.step()
            step += 1
            if a.ema:
                follow(average, network, min(a.ema, step / (9 + step)))
            if step == a.kan_grid_at and isinstance(kan, KAN):
                # New grids carry new coefficients: the average and the moments begin anew there.
                kan.update_grid(fused[0].float().flatten(0, 1))
                processes.share(kan)
                averaged = average.get_submodule("head")
                averaged.load_state_dict(kan.state_dict())
                for parameter in kan.parameters():
                    optimizer.state.pop(parameter, None)

            progress.update()
            seconds += time.monotonic() - asked
            stop = processes.any(bool(stopped))
            if processes.rank == 0:
                speed = (step - first) * rows / seconds
                run.log(
                    step, step * rows / len(windows), rate, terms,
                    windows_per_s=speed, loader=waited / seconds,
                )  # fmt: skip
                if stop or step % a.save_every == 0 or step == steps:
                    made = {**provenance, "seed": a.seed, "steps": step}
                    # The state last: what goes on from it writes the checkpoint again.
                    try:
                        save_network(run.checkpoint, average, made)
                    except OSError as error:
                        raise DataError(
                            f"{run.checkpoint}: cannot be written ({error}); the state saved "
                            "before is whole"
                        ) from None
                    run.save(step, **parts)
                    if held_out:
                        check = validation(average, held_out, weights, device)
                        run.validated(step, check)
                        figures = " ".join(f"{k} {v:.4f}" for k, v in check.items())
                        progress.write(f"{step}: {figures}")
            if stop:
                raise KeyboardInterrupt
        progress.close()
    return Trained(run.checkpoint, step - first, (step - first) * rows, seconds, waited)


def build_like(network: Network) -> Network:
    """A copy that is not trained itself."""
    twin = type(network)(network.config)
    twin.load_state_dict(network.state_dict())
    return twin.requires_grad_(False)


@torch.no_grad()
def follow(average: Network, network: Network, decay: float) -> None:
    """Exponential moving average of the weights."""
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


@torch.inference_mode()
def validation(
    network: Network, windows: Windows, weights: LossWeights, device: str
) -> dict[str, float]:
    """Mean loss terms, and the mouth's distance in canonical pixels, over fixed windows: an
    epoch, or 512 of it.
    """
    network.eval()
    unit = network.config.unit_px
    batches = min(16, math.ceil(len(windows) / 32))
    sums: dict[str, float] = {}
    for step in range(batches):
        b = windows.batch(32, step).to(device)
        y = network.displacement(b.audio, b.identity, b.emotion)
        terms = loss(y / unit, b.target / unit, b.mask, weights)
        distance = (y - b.target)[:, :, 48:].norm(dim=-1).mean(-1)
        terms["m_ld_px"] = (distance * b.mask).sum() / b.mask.sum().clamp(min=1)
        for k, v in terms.items():
            sums[k] = sums.get(k, 0.0) + float(v) / batches
    return sums


def _diverged(step: int, value: float, y: Tensor, b: Batch, windows: Windows) -> str:
    """Names the rows whose input or answer is not finite, or all of them."""
    whole = [part.flatten(1).isfinite().all(1) for part in (y, b.audio, b.target, b.identity)]
    bad = ~torch.stack(whole).all(0)
    rows = b.index[bad] if bad.any() else b.index
    names = ", ".join(windows.describe(int(g)) for g in rows[:8])
    return (
        f"step {step}: the loss is {value}; in its batch {names}. "
        "Nothing was saved after the last checkpoint; wanted a lower --lr, --clip 1, or other data"
    )


@contextmanager
def _until_stopped() -> Generator[list[int]]:
    """Ctrl-C and SIGTERM let the step end: they are put in the list instead."""
    caught: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: caught.append(number)) for kind in kinds]
    try:
        yield caught
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def main() -> int:
    try:
        a = arguments()
        done = train(a)
    except KFusionError as error:
        print(f"kfusion-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped and saved; start again with the same --out to go on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"kfusion-train: cannot write ({error})", file=sys.stderr)
        return 2
    print(done.checkpoint)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
