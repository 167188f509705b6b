"""What moved on a face, in millimetres: the measures that every set of coefficients is made of.

Landmarks are freed of the head's own motion and compared with the identity at rest. A millimetre is
1/91 of the inter-ocular distance: outer eye corners lie 93.0 mm (men) and 88.4 mm (women) apart
(BioMed Research International 2013, 821428). Left and right are the subject's: points 36-41 are the
right eye, on the left of an image that is not mirrored.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.landmarks import COUNT, RIGID, Identity, inter_ocular

INTER_OCULAR_MM: Final = 91.0

Values = NDArray[np.float64]

# Each measure is a sum of points' moves: (axis, {point: weight}), axis 0 to the right of the image
# (the subject's left), 1 down. Where a measure has two sides, the subject's left is first.
_Sum = tuple[int, dict[int, float]]


def _up(*points: int) -> dict[int, float]:
    return {i: -1 / len(points) for i in points}


def _down(*points: int) -> dict[int, float]:
    return {i: 1 / len(points) for i in points}


_right, _left = _down, _up  # along the other axis

# fmt: off
_SUMS: Final[dict[str, tuple[_Sum, ...]]] = {
    "eye_closing": ((1, _down(43, 44) | _up(46, 47)), (1, _down(37, 38) | _up(40, 41))),
    "lower_lid": ((1, _up(46, 47)), (1, _up(40, 41))),
    "brow_inner": ((1, _up(22, 23)), (1, _up(20, 21))),
    "brow_frown": ((1, _up(22, 23, 24)), (1, _up(19, 20, 21))),
    "brow_outer": ((1, _up(24, 25, 26)), (1, _up(17, 18, 19))),
    "corner_out": ((0, _right(54, 64)), (0, _left(48, 60))),
    "corner_up": ((1, _up(54, 64)), (1, _up(48, 60))),
    "upper_lip": ((1, _up(62, 63)), (1, _up(61, 62))),
    "lower_lip": ((1, _down(65, 66)), (1, _down(66, 67))),
    "vermilion": (
        (1, _down(61, 62, 63) | _up(50, 51, 52)), (1, _down(56, 57, 58) | _up(65, 66, 67))
    ),
    "mouth_wider": ((0, {54: 0.5, 64: 0.5, 48: -0.5, 60: -0.5}),),
    "gap": ((1, _up(61, 62, 63) | _down(65, 66, 67)),),
    "upper": ((1, _up(61, 62, 63)),),
    "lower": ((1, _down(65, 66, 67)),),
    "chin": ((1, _down(7, 8, 9)),),
    "chin_left": ((0, _right(7, 8, 9)),),
    "mouth_left": ((0, _right(48, 51, 54, 57)),),
}
# fmt: on


def _at() -> list[tuple[str, int | slice]]:
    """Where each measure's rows are among all."""
    found: list[tuple[str, int | slice]] = []
    row = 0
    for name, sums in _SUMS.items():
        found.append((name, row if len(sums) == 1 else slice(row, row + len(sums))))
        row += len(sums)
    return found


_AT: Final = _at()


@dataclass(frozen=True)
class Movements:
    """Of T frames, mm from rest; 0 at rest. Two-sided ones are (2, T), the subject's left first;
    the others (T,).

    ``head``: the frames' size and roll against the identity as complex numbers (T,).
    """

    eye_closing: Values
    lower_lid: Values  # up
    brow_inner: Values  # its inner end, up
    brow_frown: Values  # inner end and middle, up
    brow_outer: Values  # middle and outer end, up
    corner_out: Values  # of the mouth
    corner_up: Values
    upper_lip: Values  # up
    lower_lip: Values  # down
    vermilion: Values  # height of the red of the upper and of the lower lip, (2, T)
    mouth_wider: Values
    gap: Values  # lips, apart
    upper: Values  # upper lip as a whole, up
    lower: Values  # lower lip as a whole, down
    chin: Values  # down
    chin_left: Values  # to the subject's left
    mouth_left: Values
    head: NDArray[np.complex128]

    @cached_property
    def jaw(self) -> Values:
        """How far the jaw is lowered, (T,): the mean of chin and lower lip.

        A nod moves the chin, and parted or pressed lips move the lower lip, but not both.
        """
        return 0.5 * (self.chin + self.lower)


class MovementMeter:
    """Measures the frames of one identity.

    ``eye`` (2, 1), ``mouth`` and ``vermilion`` (2, 1): opening of the eyes, width of the mouth and
    height of the lips' red at rest, in mm. A lower bound keeps divisions by them finite.
    """

    FARTHEST: Final = 1e4  # canonical pixels: what lies beyond is no face any more
    OUTSIDE: Final = 1e12  # the same in own coordinates, which reach to 1e9
    SMALLEST: Final = 0.25  # the least size of a frame, against the identity's, that is undone

    def __init__(self, identity: Identity) -> None:
        face = identity.canonical
        self.identity = identity
        self._forward = identity.back.inverse
        self.mm = INTER_OCULAR_MM / float(inter_ocular(face))
        self._rigid = np.array(list(RIGID))
        z = face @ np.array([1, 1j])
        self._centred = z - z[self._rigid].mean()
        arms = self._centred[self._rigid]
        self._arms = arms.conj() / float((arms * arms.conj()).real.sum())
        sums = [s for each in _SUMS.values() for s in each]
        self._sums = np.zeros((COUNT * 2, len(sums)))
        for k, (axis, weights) in enumerate(sums):
            for point, weight in weights.items():
                self._sums[2 * point + axis, k] = weight * self.mm
        at_rest = face.reshape(1, -1) @ self._sums
        rest = {name: at_rest[0, at] for name, at in _AT}
        self.eye = np.maximum(-rest["eye_closing"], 3.0)[:, None]
        self.mouth = np.maximum(rest["mouth_wider"], 15.0)
        self.vermilion = np.maximum(rest["vermilion"], 3.0)[:, None]

    def displacement(self, points: NDArray[Any]) -> Values:
        """Landmarks (T, 68, 2) in the identity's own coordinates -> canonical displacement."""
        own = np.clip(np.asarray(points, np.float64), -self.OUTSIDE, self.OUTSIDE)
        return self._forward.apply_vectors(own - self.identity.points)

    def measure(self, displacement: NDArray[Any]) -> Movements:
        """Canonical displacement (T, 68, 2) -> what moved, the head's own motion taken away."""
        moved = np.ascontiguousarray(displacement, np.float64)
        moved = np.minimum(np.maximum(moved, -self.FARTHEST), self.FARTHEST)
        z = moved.view(np.complex128)[..., 0]  # (T, 68)
        rigid = z.take(self._rigid, axis=1)
        head = 1 + np.add.reduce(rigid * self._arms, axis=1)
        size = np.maximum(head.real**2 + head.imag**2, self.SMALLEST**2)
        back = (head.conj() / size)[:, None]
        place = np.add.reduce(rigid, axis=1)[:, None] / len(RIGID)
        own = (z - place + self._centred) * back - self._centred
        # A matrix product may round differently with the number of frames; this does not.
        s = np.einsum("ti,ik->kt", own.view(np.float64), self._sums)
        return Movements(**{name: s[at] for name, at in _AT}, head=head)
