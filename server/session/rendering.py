"""How a stream's frames are shown: whose face they are put on, with how much life, as what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfusion import wire
from kfusion.coefficients import OUTPUTS, Rig, coefficients
from kfusion.landmarks import Identity
from kfusion.life import Life


@dataclass(frozen=True)
class Look:
    """An identity, a life (None adds nothing), and what is sent of each frame, points first."""

    identity: Identity
    outputs: tuple[wire.Output, ...] = ("points",)
    life: Life | None = None

    @cached_property
    def rig(self) -> Rig:
        return Rig(self.identity)

    def shown(
        self,
        first: int,
        displacement: NDArray[np.float32],
        levels: NDArray[Any] | None,
        outputs: tuple[wire.Output, ...] | None = None,
    ) -> dict[wire.Output, NDArray[np.float32]]:
        """Canonical displacements (k, 68, 2) of frames ``first`` ..., and the loudness that life
        hears of them -> (k, width) of each output, or of these ones. The same for any division
        into calls.
        """
        if self.life is not None and levels is not None:
            displacement = self.life.add(self.identity, first, displacement, levels)
        values: dict[wire.Output, NDArray[np.float32]] = {}
        for name in self.outputs if outputs is None else outputs:
            if name == "points":
                values[name] = self.identity.place(displacement).reshape(len(displacement), -1)
            else:
                values[name] = coefficients(name, self.rig, displacement)
        return values


def ordered(outputs: tuple[wire.Output, ...]) -> tuple[wire.Output, ...]:
    """What was asked for, each once, in the order in which it is sent."""
    return tuple(name for name in wire.KINDS if name in outputs)


def names(outputs: tuple[wire.Output, ...]) -> dict[str, list[str]]:
    """What the numbers of each output are called."""
    known: dict[str, list[str]] = {"points": wire.POINT_NAMES}
    known |= {name: list(of) for name, of in OUTPUTS.items()}
    return {name: known[name] for name in ordered(outputs)}
