"""The folder of a training run: its state, its weights, its logs and its loss plot.

state.pt           network, average, optimizer, step and settings, to go on from
model.safetensors  the weights (their average where one is kept)
log.csv            every few steps: step, epoch, learning rate, loss terms, speed
validation.csv     at every save
loss.png           both, drawn
tensorboard/       the same for TensorBoard
"""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from kfusion.errors import DataError

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
        self._board: Any = None
        if writes:
            out.mkdir(parents=True, exist_ok=True)

    def restore(self, **parts: Any) -> int:
        """Loads the parts' states where there are any; the step to go on from."""
        if not self.state_file.exists():
            self._forget_after(0)
            return 0
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        for name, value in self.settings.items():
            was = state["settings"].get(name)
            if was != value:
                what = "on other data" if name == "sha256" else f"with {name} {was}, not {value}"
                raise DataError(f"{self.out}: was begun {what}; wanted the same, or a new --out")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self._forget_after(int(state["step"]))
        return int(state["step"])

    def save(self, step: int, **parts: Any) -> None:
        """Whole or not at all. Raises DataError where it cannot be written."""
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = self.state_file.with_suffix(".partial")
        try:
            torch.save({**state, "step": step, "settings": self.settings}, partial)
            partial.replace(self.state_file)
        except (OSError, RuntimeError) as error:  # torch has its own word for a full disk
            partial.unlink(missing_ok=True)
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.state_file}: cannot be written ({reason}); the state saved before is whole"
            ) from None

    def log(
        self, step: int, epoch: float, rate: float, terms: dict[str, Tensor], **speed: float
    ) -> None:
        """A line of log.csv every :data:`LOG_EVERY` steps."""
        if step % LOG_EVERY == 0 or step == 1:
            values = {k: float(v.detach()) for k, v in terms.items()}
            row = {"epoch": epoch, "learning_rate": rate, **values, **speed}
            self._append("log.csv", step, row, "train")

    def validated(self, step: int, values: dict[str, float]) -> None:
        self._append("validation.csv", step, values, "validation")
        self._draw()

    def _append(self, name: str, step: int, row: dict[str, float], group: str) -> None:
        path = self.out / name
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *row])
            writer.writerow([step, *(f"{v:.6g}" for v in row.values())])
        for key, value in row.items():
            self._writer().add_scalar(f"{group}/{key}", value, step)

    def _writer(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self.out / "tensorboard")
        return self._board

    def _forget_after(self, step: int) -> None:
        """Takes out what a killed run logged after its last save."""
        if not self.writes:
            return
        for name in ("log.csv", "validation.csv"):
            if (path := self.out / name).exists():
                head, *rows = path.read_text().splitlines()
                kept = [row for row in rows if int(row.split(",")[0]) <= step]
                partial = path.with_suffix(".partial")
                partial.write_text("\n".join([head, *kept]) + "\n")
                partial.replace(path)

    def columns(self, name: str) -> dict[str, list[float]]:
        """A log as columns; empty where there is none."""
        path = self.out / name
        if not path.exists():
            return {}
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {key: [float(row[key]) for row in rows] for key in rows[0]} if rows else {}

    def _draw(self) -> None:
        """loss.png: training and validation loss against the step, on a log scale."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes: Any = figure.subplots()
        for name, label in (("log.csv", "training"), ("validation.csv", "validation")):
            if (columns := self.columns(name)) and columns["step"]:
                axes.plot(columns["step"], columns["total"], label=label, marker=".", lw=1)
        axes.set(xlabel="step", ylabel="loss", yscale="log", title=self.out.name)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(self.out / "loss.png", dpi=100)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()
