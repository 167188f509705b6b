"""Trains a network on prepared corpora::

    python -m training.train --data corpora/mead --out runs/mead
    torchrun --nproc-per-node 4 -m training.train --data corpora/mead --out runs/mead

The defaults are the paper's: 200 epochs, mean square error, Adam at 3e-4 annealed by a cosine to
1e-6. Better choices are options. Read it from top to bottom: the options, then :func:`train`: data,
network, resume, the loop. A run saves itself as it goes, on Ctrl-C too, and is resumed with the
same bits by the same command. Options may stand in a file, one a line: @FILE.
"""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from tqdm import tqdm

from kfusion import __version__
from kfusion.config import PRESETS
from kfusion.errors import DataError, KFusionError, run_command
from kfusion.layers.kan import KAN
from kfusion.layers.wav2vec2 import weights_sha256
from kfusion.model import KFusion
from kfusion.options import add_options, option, parsed
from kfusion.system import file_sha256
from training.corpus.format import fingerprint, open_corpora
from training.data.augment import ON, PLAIN, parse_augmentation
from training.data.batch import Batch
from training.data.features import StoredFeatures, check_options
from training.data.windows import Windows, loader
from training.models.baselines import Baseline
from training.models.losses import LossWeights, landmark_loss, training_loss
from training.models.networks import (
    ABLATIONS,
    BASELINES,
    CHOICES,
    Network,
    build,
    configured,
    load_network,
)
from training.models.training_network import (
    MovingAverage,
    TrainedState,
    TrainingNetwork,
    fit_kan_grids,
    frozen_wav2vec2,
    network_outputs,
    share_frozen,
)
from training.run import Processes, Run

LEAST_RATE: Final = 1e-6
"""The learning rate that the cosine ends at."""
MUTABLE: Final = ["out", "device", "threads", "workers", "save_every", "licence", "data", "command"]
"""Options that may differ when a run is resumed."""


@dataclass(frozen=True)
class TrainConfig:
    """The options of a run. The defaults are the paper's, of the network ``compact``."""

    data: tuple[Path, ...] = option(about="prepared corpora; one named twice counts twice")
    out: Path = option(about="folder of the run")

    network: str = option("kfusion", group="network", choices=[*ABLATIONS, *CHOICES, *BASELINES])
    preset: str = option("compact", group="network", choices=sorted(PRESETS))
    wav2vec2: str = option("facebook/wav2vec2-base", "hub name or local folder", group="network")
    init: Path | None = option(None, "checkpoint to begin from, with its network", group="network")
    finetune: bool = option(False, "train wav2vec2 too", group="network")
    set: tuple[str, ...] = option(
        (), "fields of kfusion.config.ModelConfig to change", group="network", metavar="FIELD=VALUE"
    )
    features: Path | None = option(
        None, "folder that keeps a frozen wav2vec2's features of the windows", group="network"
    )
    kan_l1: float = option(0.0, "weight of the KAN's sparsification", group="network")
    kan_grid_at: int = option(0, "step that fits its grids to data", group="network")

    mouth: float = option(1.0, "weight of a mouth point", group="loss")
    velocity: float = option(0.0, "weight of frame-to-frame change", group="loss")
    gap: float = option(0.0, "weight of the inner-lip gap", group="loss")
    width: float = option(0.0, "weight of the mouth's width", group="loss")
    late: float = option(1.0, "weight of a frame from the 19th on", group="loss")
    swing: float = option(0.0, "weight of the gap's deviation", group="loss")
    phones: float = option(0.0, "weight of naming the phones as well", group="loss")

    epochs: int = option(200, group="optimisation")
    steps: int | None = option(None, "end after as many, instead of --epochs", group="optimisation")
    batch: int = option(32, "windows a step and process", group="optimisation")
    lr: float = option(3e-4, "learning rate", group="optimisation")
    warmup: int = option(0, "steps of linear rise", group="optimisation")
    weight_decay: float = option(0.0, "decoupled, as in AdamW", group="optimisation")
    clip: float = option(0.0, "largest norm of the gradient", group="optimisation")
    ema: float = option(0.0, "save an average that decays so", group="optimisation")

    augment: tuple[str, ...] = option((), ", ".join(ON), group="data", metavar="NAME")
    by_level: bool = option(False, "level 1 is a third of an emotion", group="data")
    wider: float = option(0.0, "lips of dubbed faces part by so much more", group="data")
    start_every: int = option(1, "windows begin at every Nth frame of a clip", group="data")
    seed: int = option(1, group="data")

    device: str = option("cuda" if torch.cuda.is_available() else "cpu", group="machine")
    bf16: bool = option(False, "bfloat16 where autocast allows", group="machine")
    threads: int = option(0, "of the CPU; 0: torch's choice", group="machine")
    workers: int | None = option(None, "loader processes; on the CPU 0, else 8", group="machine")
    save_every: int = option(250, "steps", group="machine")
    licence: str = option("", "a note on the data, kept in the checkpoint", group="machine")
    command: str = ""

    @property
    def loss_weights(self) -> LossWeights:
        return LossWeights(**{f.name: getattr(self, f.name) for f in fields(LossWeights)})

    def settings(self) -> dict[str, Any]:
        """The options that a run keeps when it is resumed, as they stand in its state.pt."""
        kept = {name: value for name, value in vars(self).items() if name not in MUTABLE}
        kept |= {"set": list(self.set), "augment": list(self.augment)}
        kept["features"] = self.features is not None
        return kept | {"init": file_sha256(self.init) if self.init else None}


class _Parser(argparse.ArgumentParser):
    """Reads @FILE as a shell would: several options a line, # comments."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return shlex.split(arg_line, comments=True)


def arguments(argv: Sequence[str] | None = None) -> TrainConfig:
    parser = _Parser(
        prog="kfusion-train", description=__doc__, fromfile_prefix_chars="@",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"kfusion {__version__}")
    add_options(parser, TrainConfig)
    given = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "training.train", *given])
    return parsed(TrainConfig, parser.parse_args(argv), command=command)


class Diverged(KFusionError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Trained:
    """What :func:`train` did; ``waited``: the part of ``seconds`` spent on the loader."""

    checkpoint: Path
    steps: int
    windows: int
    seconds: float
    waited: float


def train(config: TrainConfig) -> Trained:
    if config.threads:
        torch.set_num_threads(config.threads)
    with Processes.joined(config.device) as processes:
        return _train(config, processes)


def _train(config: TrainConfig, processes: Processes) -> Trained:
    device, main_process = processes.device, processes.rank == 0

    # Data
    if config.features is not None:
        check_options(config.augment, finetune=config.finetune)
    corpora = open_corpora(config.data)
    windows = Windows(
        corpora, "train", parse_augmentation(config.augment), config.seed,
        by_level=config.by_level, wider=config.wider, start_every=config.start_every,
    )  # fmt: skip
    held_out = None
    if any(entry.split == "validation" for corpus in corpora for entry in corpus.entries):
        held_out = Windows(
            corpora, "validation", PLAIN, by_level=config.by_level, start_every=config.start_every
        )
    rows = config.batch * processes.world
    steps = config.steps or math.ceil(config.epochs * len(windows) / rows)

    # Network
    torch.manual_seed(config.seed)
    network = make_network(config, windows, device)
    unit_px = network.config.unit_px
    encoder = frozen_wav2vec2(network)
    average = MovingAverage(network, config.ema)
    training_network = TrainingNetwork(network, phones=config.phones > 0).to(device)
    parallel = processes.parallel(training_network)
    kan = network.head if isinstance(network, KFusion) and isinstance(network.head, KAN) else None
    optimizer = torch.optim.AdamW(
        [p for p in training_network.parameters() if p.requires_grad],
        lr=config.lr,
        weight_decay=config.weight_decay,  # 0: plain Adam
        fused=True,
    )

    # Resume
    provenance: dict[str, Any] = {
        "command": config.command, "licence": config.licence, "seed": config.seed,
        "data": [folder.name for folder in config.data],
        "split": [f"{c.folder.name}: by {c.header.split_by}" for c in corpora],
        "clips": len(windows.clips),
        "sha256": fingerprint(clip.entry for clip in windows.clips),
    }  # fmt: skip
    settings = config.settings() | {"rows": rows, "sha256": provenance["sha256"]}
    if encoder is not None:
        settings["wav2vec2_sha256"] = weights_sha256(encoder.model.state_dict())
    run = Run(config.out, settings, device, writes=main_process)
    parts = {
        "student": TrainedState(training_network),
        "average": TrainedState(average.network),
        "optimizer": optimizer,
    }
    first = run.restore(**parts)
    if config.features is not None:
        store_features(config.features, network, [windows, held_out], processes)
    if main_process:
        print(
            f"{len(windows.clips)} clips, {len(windows)} windows an epoch to train on, "
            f"{len(held_out.clips) if held_out else 0} clips held out; "
            f"step {first} of {steps}, {rows} windows each",
            flush=True,
        )

    # The loop
    on_cuda = device.startswith("cuda")
    workers = (8 if on_cuda else 0) if config.workers is None else config.workers
    batches = iter(
        loader(
            windows, config.batch, range(first, steps), rank=processes.rank,
            world=processes.world, workers=workers, pin=on_cuda,
        )
    )  # fmt: skip
    progress = tqdm(initial=first, total=steps, mininterval=5, disable=not main_process)
    seconds = waited = 0.0
    with processes.stop_signals() as stop_requested, progress:
        for step in range(first, steps):
            begun = time.monotonic()
            batch = next(batches).to(device)
            waited += time.monotonic() - begun
            torch.manual_seed((config.seed * 1_000_003 + step) * processes.world + processes.rank)
            rate = learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate

            parallel.train()
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=config.bf16):
                outputs = parallel(batch)
            total, terms = training_loss(outputs, batch, unit_px, config.loss_weights, kan)
            if not torch.isfinite(total):
                raise diverged(step, total, outputs.displacement, batch, windows)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if config.clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            done = step + 1
            average.update(network, done)
            if done == config.kan_grid_at and kan is not None:
                fit_kan_grids(kan, outputs.fused, average, optimizer, processes.broadcast)

            progress.update()
            seconds += time.monotonic() - begun
            stop = stop_requested()
            if main_process:
                run.log(
                    done,
                    {
                        "epoch": done * rows / len(windows), "learning_rate": rate,
                        "total": total.detach(), **terms,
                        "windows_per_s": (done - first) * rows / seconds,
                        "loader": waited / seconds,
                    },
                )  # fmt: skip
            if main_process and (stop or done % config.save_every == 0 or done == steps):
                run.save(done, average.network, provenance | {"steps": done}, **parts)
                if held_out:
                    figures = validation(average.network, held_out, config.loss_weights, device)
                    run.validated(done, figures)
                    line = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
                    progress.write(f"{done}: {line}")
            if stop:
                raise KeyboardInterrupt
    return Trained(run.checkpoint, steps - first, (steps - first) * rows, seconds, waited)


def make_network(config: TrainConfig, windows: Windows, device: str) -> Network:
    """A new network, or that of ``--init``; a new baseline is fitted to some of the targets."""
    start = load_network(config.init)[0] if config.init else None
    model_config = start.config if start else PRESETS[config.preset]
    model_config = replace(model_config, freeze_wav2vec2=not config.finetune)
    model_config = configured(model_config, config.set)
    if start:
        network = type(start)(model_config)
        network.load_state_dict(start.state_dict())
        share_frozen(network, start)
        return network.to(device)
    network = build(config.network, model_config, config.wav2vec2).to(device)
    if isinstance(network, Baseline):
        targets = torch.cat([windows.batch(32, step).target for step in range(16)])
        network.fit(targets.flatten(2).flatten(0, 1).to(device) / model_config.unit_px)
    return network


def store_features(
    folder: Path, network: Network, sides: Sequence[Windows | None], processes: Processes
) -> None:
    """Computes the features that the folder lacks, and gives them to the windows."""
    encoder = frozen_wav2vec2(network)
    if encoder is None:
        raise DataError("--features is for a network with wav2vec2; wanted --preset paper")
    for windows in filter(None, sides):
        stored = StoredFeatures(folder, encoder, windows.start_every)
        stored.fill(windows.clips, encoder, rank=processes.rank, world=processes.world)
        windows.features = stored


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine annealing to 1e-6."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, steps - config.warmup)
    return LEAST_RATE + (config.lr - LEAST_RATE) * (1 + math.cos(math.pi * min(1.0, share))) / 2


@torch.inference_mode()
def validation(
    network: Network, windows: Windows, weights: LossWeights, device: str
) -> dict[str, float]:
    """Mean loss terms and the mouth's distance (px) over at most 512 fixed windows."""
    network.eval()
    unit = network.config.unit_px
    batches = min(16, math.ceil(len(windows) / 32))
    means: dict[str, float] = {}
    for step in range(batches):
        batch = windows.batch(32, step).to(device)
        predicted = network_outputs(network, batch).displacement
        total, terms = landmark_loss(predicted / unit, batch.target / unit, batch.mask, weights)
        distance = (predicted - batch.target)[:, :, 48:].norm(dim=-1).mean(-1)
        m_ld_px = (distance * batch.mask).sum() / batch.mask.sum().clamp(min=1)
        for name, value in {"total": total, **terms, "m_ld_px": m_ld_px}.items():
            means[name] = means.get(name, 0.0) + float(value) / batches
    return means


def diverged(
    step: int, loss: Tensor, predicted: Tensor, batch: Batch, windows: Windows
) -> Diverged:
    """The error that names the rows whose input or output is not finite, or all of them."""
    parts = (predicted, batch.audio, batch.target, batch.identity)
    bad = ~torch.stack([part.flatten(1).isfinite().all(1) for part in parts]).all(0)
    rows = batch.index[bad] if bad.any() else batch.index
    names = ", ".join(windows.describe(int(g)) for g in rows[:8])
    return Diverged(
        f"step {step}: the loss is {float(loss.detach())}; in its batch {names}. "
        "Nothing was saved after the last checkpoint; wanted a lower --lr, --clip 1, or other data"
    )


def run(argv: Sequence[str] | None = None) -> int:
    try:
        print(train(arguments(argv)).checkpoint)
    except KeyboardInterrupt:
        print("stopped and saved; start again with the same --out to resume", file=sys.stderr)
        return 130
    return 0


def main() -> int:
    return run_command("kfusion-train", run)


if __name__ == "__main__":
    raise SystemExit(main())
