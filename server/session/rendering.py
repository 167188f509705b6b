"""What is sent of a stream's frames: whose face they have, with how much life, which outputs, and
in which encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kfusion import wire
from kfusion.coefficients import OUTPUTS, Rig, coefficients
from kfusion.config import FPS
from kfusion.landmarks import Identity
from kfusion.life import HISTORY as LEVELS_BEFORE
from kfusion.life import Life

Encoding = Literal["json", "binary", "pairs"]
Values = dict[wire.Output, NDArray[np.float32]]
"""(k, width) of each output."""


@dataclass(frozen=True)
class Rendering:
    """An identity, a life (None adds nothing), and the outputs in the order of sending."""

    identity: Identity
    outputs: tuple[wire.Output, ...] = ("points",)
    life: Life | None = None

    @cached_property
    def rig(self) -> Rig:
        return Rig(self.identity)

    def render(
        self,
        first: int,
        displacement: NDArray[np.float32],
        levels: NDArray[Any] | None,
        outputs: tuple[wire.Output, ...] | None = None,
    ) -> Values:
        """Canonical displacements (k, 68, 2) of frames ``first`` ..., and the loudness from which
        life is computed -> the values of each output, or of these ones. The same for any division
        into calls.
        """
        if self.life is not None and levels is not None:
            displacement = self.life.add(self.identity, first, displacement, levels)
        values: Values = {}
        for name in self.outputs if outputs is None else outputs:
            if name == "points":
                values[name] = self.identity.place(displacement).reshape(len(displacement), -1)
            else:
                values[name] = coefficients(name, self.rig, displacement)
        return values


@dataclass
class FrameChunk:
    """Consecutive frames from ``first``: canonical ``displacement`` (k, 68, 2), their rendering,
    and with life the loudness for it: ``levels`` (HISTORY of kfusion.life + k,).
    """

    first: int
    displacement: NDArray[np.float32]
    rendering: Rendering
    levels: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.displacement)

    @property
    def end(self) -> int:
        return self.first + len(self.displacement)

    def render(self, outputs: tuple[wire.Output, ...] | None = None) -> Values:
        """The values of each output that is sent, or of these ones."""
        return self.rendering.render(self.first, self.displacement, self.levels, outputs)

    def split(self, count: int) -> tuple[FrameChunk, FrameChunk]:
        before = after = self.levels
        if self.levels is not None:
            before, after = self.levels[: LEVELS_BEFORE + count], self.levels[count:]
        return (
            FrameChunk(self.first, self.displacement[:count], self.rendering, before),
            FrameChunk(self.first + count, self.displacement[count:], self.rendering, after),
        )


class FrameEncoder:
    """Frames as messages of the wire.

    ``encoding`` "pairs" is for a channel that loses messages: each holds one frame and, again, the
    one that was encoded before it (``previous``), if it is the frame before.
    """

    MAX_BLOCK: Final = 30  # frames a binary message

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.max_frames = self.MAX_BLOCK if encoding == "binary" else 1
        self.previous: tuple[int, Values] | None = None

    def encode(self, chunk: FrameChunk, clock_us: int) -> list[str] | list[bytes]:
        """Messages of at most ``max_frames`` frames: one, or one an output."""
        values = chunk.render()
        if self.encoding == "json":
            numbers: dict[str, list[float]] = {k: v[0].tolist() for k, v in values.items()}
            return [wire.encode(wire.Frame(chunk.first, chunk.first / FPS, **numbers))]
        first = chunk.first
        if self.encoding == "pairs":
            first, values = self._paired(first, values)
        return [
            wire.encode_frames(wire.FrameBlock(name, first, clock_us, rows))
            for name, rows in values.items()
        ]

    def _paired(self, n: int, values: Values) -> tuple[int, Values]:
        previous, self.previous = self.previous, (n, values)
        if previous is None or previous[0] != n - 1 or previous[1].keys() != values.keys():
            return n, values
        return n - 1, {k: np.concatenate((previous[1][k], v)) for k, v in values.items()}


def ordered_outputs(outputs: tuple[wire.Output, ...]) -> tuple[wire.Output, ...]:
    """The outputs of a `start`, each once, in the order in which they are sent."""
    return tuple(name for name in wire.KINDS if name in outputs)


def output_names(outputs: tuple[wire.Output, ...]) -> dict[str, list[str]]:
    """The name of each number of each output."""
    names: dict[str, list[str]] = {"points": wire.POINT_NAMES}
    names |= {name: list(of) for name, of in OUTPUTS.items()}
    return {name: names[name] for name in ordered_outputs(outputs)}
