"""What surrounds a training loop: the folder of a run, the processes of torchrun, and Ctrl-C.

state.pt           network, average, optimizer, step and settings, to resume from
model.safetensors  the weights (their average where one is kept)
log.csv            every few steps: step, epoch, learning rate, loss terms, speed
validation.csv     at every save
loss.png           both, drawn
"""

from __future__ import annotations

import copy
import csv
import os
import signal
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kfusion.errors import DataError
from training.models.networks import Network, save_network

LOG_EVERY = 20


class Run:
    """Opens the folder of a run; with ``writes`` False it only reads.

    Raises :class:`~kfusion.errors.DataError` where the run was begun with other settings.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], device: str, *, writes: bool = True
    ) -> None:
        self.out, self.settings, self.device, self.writes = out, settings, device, writes
        self.state_file = out / "state.pt"
        self.checkpoint = out / "model.safetensors"
        if writes:
            out.mkdir(parents=True, exist_ok=True)

    def restore(self, **parts: Any) -> int:
        """Loads the parts' saved states where there are any; the first step that is missing.

        Raises :class:`~kfusion.errors.DataError`, with the parts as they were, where the file is
        damaged or is no state of these parts.
        """
        if not self.state_file.exists():
            self._forget_after(0)
            return 0
        damaged = (
            f"{self.state_file}: is damaged, or is not what training.train writes for this "
            f"network ({{}}); wanted the file whole; without it, or in a new --out, training "
            "begins again"
        )
        try:
            with zipfile.ZipFile(self.state_file) as archive:
                if part := archive.testzip():  # torch.load does not look at the checksums
                    raise DataError(f"the checksum of its {part} is wrong")
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            step, settings = int(state["step"]), dict(state["settings"])
            saved_parts = {name: state[name] for name in parts}
        except Exception as error:  # torch.load has no one word for what is no file of its own
            raise DataError(damaged.format(_first_line(error))) from None
        for name, value in self.settings.items():
            saved = settings.get(name)
            if saved != value:
                what = "on other data" if name == "sha256" else f"with {name} {saved}, not {value}"
                raise DataError(f"{self.out}: was begun {what}; wanted the same, or a new --out")
        before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
        try:
            for name, part in parts.items():
                part.load_state_dict(saved_parts[name])
        except Exception as error:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            raise DataError(damaged.format(_first_line(error))) from None
        self._forget_after(step)
        return step

    def save(self, step: int, network: Network, provenance: dict[str, Any], **parts: Any) -> None:
        """Writes the checkpoint of a network, then the parts' states; each whole or not at all.

        A run that is resumed from the state before writes the checkpoint again. Raises DataError
        where one cannot be written.
        """
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = self.state_file.with_suffix(".partial")
        path = self.checkpoint
        try:
            save_network(path, network, provenance)
            path = self.state_file
            torch.save({**state, "step": step, "settings": self.settings}, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch has its own word for a full disk
            partial.unlink(missing_ok=True)
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path}: cannot be written ({reason}); the state saved before is whole"
            ) from None

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """A line of log.csv every :data:`LOG_EVERY` steps."""
        if step % LOG_EVERY == 0 or step == 1:
            self._append("log.csv", step, row)

    def validated(self, step: int, row: Mapping[str, float]) -> None:
        """A line of validation.csv, and loss.png drawn again."""
        self._append("validation.csv", step, row)
        self._draw()

    def _append(self, name: str, step: int, row: Mapping[str, Any]) -> None:
        rows = self._rows(name)
        columns = list(rows[0]) if rows else ["step", *row]
        with (self.out / name).open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            if not rows:
                writer.writeheader()
            writer.writerow({"step": step, **{k: f"{float(v):.6g}" for k, v in row.items()}})

    def _rows(self, name: str) -> list[dict[str, str]]:
        """The lines of a log; none where there is no file."""
        path = self.out / name
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _forget_after(self, step: int) -> None:
        """Removes what a killed run logged after its last save."""
        if not self.writes:
            return
        for name in ("log.csv", "validation.csv"):
            if (path := self.out / name).exists():
                head, *rows = path.read_text().splitlines()
                kept = [row for row in rows if int(row.split(",")[0]) <= step]
                partial = path.with_suffix(".partial")
                partial.write_text("\n".join([head, *kept]) + "\n")
                partial.replace(path)

    def _draw(self) -> None:
        """loss.png: training and validation loss against the step, on a log scale."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes: Any = figure.subplots()
        for name, label in (("log.csv", "training"), ("validation.csv", "validation")):
            if rows := self._rows(name):
                steps, losses = ([float(row[k]) for row in rows] for k in ("step", "total"))
                axes.plot(steps, losses, label=label, marker=".", lw=1)
        axes.set(xlabel="step", ylabel="loss", yscale="log", title=self.out.name)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(self.out / "loss.png", dpi=100)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@dataclass(frozen=True)
class Processes:
    """One process, or those that torchrun started: this is ``rank`` of ``world``, on ``device``."""

    rank: int
    world: int
    device: str

    @classmethod
    @contextmanager
    def joined(cls, device: str) -> Generator[Processes]:
        """Alone, or with the others of torchrun (nccl on CUDA, gloo on the CPU)."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            yield cls(0, 1, device)
            return
        on_cuda = device.startswith("cuda")
        if on_cuda:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if on_cuda else "gloo")
        try:
            yield cls(distributed.get_rank(), world, device)
        finally:
            distributed.destroy_process_group()

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with gradients that are the mean over the processes."""
        return DistributedDataParallel(module) if self.world > 1 else module

    def broadcast(self, module: nn.Module) -> None:
        """Gives every process the first one's parameters and buffers."""
        if self.world > 1:
            for part in module.state_dict().values():
                distributed.broadcast(part, 0)

    @contextmanager
    def stop_signals(self) -> Generator[Callable[[], bool]]:
        """Ctrl-C and SIGTERM let a step end: they are noted instead.

        Gives a function that every process has to call after each step: whether one of them was
        told to stop, the same in all.
        """
        received: list[int] = []

        def any_received() -> bool:
            if self.world == 1:
                return bool(received)
            votes = torch.tensor(float(bool(received)), device=self.device)
            distributed.all_reduce(votes)
            return bool(votes > 0)

        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, lambda number, _: received.append(number)) for kind in kinds]
        try:
            yield any_received
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
