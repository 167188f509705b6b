"""68 landmarks -> the coefficients that avatars are driven by: ARKit-52, VRM, Oculus visemes.

    rig = Rig(identity)
    rig.arkit52(displacement)                       # (T, 52), in the order of ARKIT52
    coefficients("vrm", rig, displacement)          # (T, 14), in the order of VRM

A coefficient is a function of one frame and the identity alone: no state, no smoothing, no jumps.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kfusion.coefficients import arkit, vrm
from kfusion.coefficients.arkit import ARKIT52, LIVE_LINK_FACE
from kfusion.coefficients.movements import MovementMeter
from kfusion.coefficients.vrm import VISEMES, VRM, VRM0
from kfusion.landmarks import Identity

__all__ = [
    "ARKIT52",
    "LIVE_LINK_FACE",
    "OUTPUTS",
    "UNKNOWN",
    "VISEMES",
    "VRM",
    "VRM0",
    "Output",
    "Rig",
    "coefficients",
    "mirrored_names",
]

Output = Literal["arkit52", "vrm"]
OUTPUTS: Final[dict[Output, tuple[str, ...]]] = {"arkit52": ARKIT52, "vrm": VRM}
"""The outputs that a stream can carry besides points, and their coefficients' names in order."""

UNKNOWN: Final[dict[str, tuple[str, ...]]] = {
    "arkit52": arkit.UNKNOWN,
    "vrm": vrm.UNKNOWN_VRM,
    "visemes": vrm.UNKNOWN_VISEMES,
}
"""What 68 points in a plane cannot tell: these coefficients are always 0."""


class Rig:
    """An identity whose movements are turned into coefficients; 0..1, float32.

    Every method takes canonical displacements (T, 68, 2) from the identity, which
    :meth:`displacement` makes of landmarks in the identity's own coordinates. The head's own motion
    in the plane (place, size, roll) does not matter.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.meter = MovementMeter(identity)

    def displacement(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Landmarks (T, 68, 2) in the identity's own coordinates -> canonical displacements."""
        return self.meter.displacement(points)

    def arkit52(self, displacement: NDArray[Any]) -> NDArray[np.float32]:
        """(T, 52) in the order of :data:`ARKIT52`."""
        return arkit.arkit52(self.meter, self.meter.measure(displacement))

    def live_link_face(self, displacement: NDArray[Any]) -> NDArray[np.float32]:
        """(T, 61) in the order of :data:`LIVE_LINK_FACE`; of the rotations only the head's roll."""
        moved = self.meter.measure(displacement)
        return arkit.live_link_face(arkit.arkit52(self.meter, moved), np.angle(moved.head))

    def vrm(self, displacement: NDArray[Any]) -> NDArray[np.float32]:
        """(T, 14) in the order of :data:`VRM`."""
        return vrm.vrm(self.meter, self.meter.measure(displacement))

    def visemes(self, displacement: NDArray[Any]) -> NDArray[np.float32]:
        """(T, 15) in the order of :data:`VISEMES`."""
        return vrm.visemes(self.meter, self.meter.measure(displacement))


_MAKERS: Final[dict[Output, Callable[[Rig, NDArray[Any]], NDArray[np.float32]]]] = {
    "arkit52": Rig.arkit52,
    "vrm": Rig.vrm,
}


def coefficients(name: Output, rig: Rig, displacement: NDArray[Any]) -> NDArray[np.float32]:
    """The output ``name`` of canonical displacements (T, 68, 2): (T, len(OUTPUTS[name]))."""
    return _MAKERS[name](rig, displacement)


def mirrored_names(names: tuple[str, ...]) -> list[int]:
    """Which coefficient to read for each, to show a face as in a mirror: left and right swapped."""
    swap = {"Left": "Right", "Right": "Left"}
    other = [
        next((n.removesuffix(a) + b for a, b in swap.items() if n.endswith(a)), n) for n in names
    ]
    return [names.index(n) for n in other]
