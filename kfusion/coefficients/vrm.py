"""VRM's expressions and Oculus's visemes from what moved on a face."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.coefficients.arkit import INDEX, expression, narrowing, unit
from kfusion.coefficients.movements import MovementMeter, Movements, Values

# fmt: off
VRM: Final[tuple[str, ...]] = (
    "aa", "ih", "ou", "ee", "oh", "happy", "angry", "sad", "relaxed", "surprised",
    "blink", "blinkLeft", "blinkRight", "neutral",
)
"""Preset expressions of VRM 1.0 (VRMC_vrm), without the four of gaze."""

VRM0: Final[dict[str, str]] = {
    "aa": "A", "ih": "I", "ou": "U", "ee": "E", "oh": "O",
    "happy": "Joy", "angry": "Angry", "sad": "Sorrow", "relaxed": "Fun",
    "blink": "Blink", "blinkLeft": "Blink_L", "blinkRight": "Blink_R", "neutral": "Neutral",
}
"""VRM 1.0 -> VRM 0.x, which has no name for ``surprised``."""

VISEMES: Final[tuple[str, ...]] = (
    "sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou",
)
"""Oculus's (OVRLipSync, OpenXR XR_META_face_tracking_visemes), in their order."""

UNKNOWN_VRM: Final = ("relaxed",)
UNKNOWN_VISEMES: Final = ("TH", "DD", "kk", "CH", "SS", "nn", "RR")
"""Sounds of the tongue and the teeth: the lips look as for a vowel beside them. Always 0."""
# fmt: on

_VOWELS: Final = [0, 2, 4, 1, 3]  # of Oculus's order in VRM's

OPEN: Final = 14.0
"""mm between the lips, beyond rest, at which a vowel is as open as can be: what one frame in a
hundred of GRID's speaker 1 (CC BY 4.0) reaches."""


def closures(face: MovementMeter, m: Movements) -> tuple[Values, Values]:
    """How much the mouth is that of p, b, m and that of f, v: two of (T,), 0..1.

    For p, b, m the lips meet over a lowered jaw; for f, v the lower lip is nearer to the raised
    upper lip than the jaw is. Weights and bounds are set on GRID's speaker 1.
    """
    met = 1 - unit((m.gap - 1) / 3)
    brought = unit((0.4 * np.maximum(m.chin, 0) - m.upper - 0.5) / 1.2)
    rounded = unit((narrowing(face, m) - 0.2) / 0.4)
    pp = met * brought * (1 - rounded)
    tucked = unit((m.chin - m.lower + m.upper) / 2 - 0.4)
    ff = tucked * (1 - unit((m.gap - 4) / 4)) * (1 - pp)
    return pp, ff


def vowels(face: MovementMeter, m: Movements) -> Values:
    """How much of aa, E, ih, oh, ou the mouth shows, (5, T), 0..1 and together at most 1.

    Open lips over a lowered jaw are aa, or oh if the mouth is narrow and E if it is wide; lips
    apart over a high jaw are ih; a narrow mouth with little opening is ou.
    """
    gap, narrow = np.maximum(m.gap, 0), narrowing(face, m)
    rounded, spread = unit(2 * narrow), unit(-2.5 * narrow)
    low = np.minimum(gap, 1.5 * np.maximum(m.chin, 0))
    high = unit(1.5 * (gap - low) / OPEN) * (1 - rounded)
    low = unit(low / OPEN)
    plain = low * (1 - rounded)
    wide = plain * spread
    parts = np.array([plain - wide, wide, high, low * rounded, rounded * (1 - low)])
    return parts / np.maximum(np.add.reduce(parts), 1)


def visemes(face: MovementMeter, m: Movements) -> NDArray[np.float32]:
    """The weights of :data:`VISEMES`, (T, 15) in 0..1, together 1; ``sil`` is what is left."""
    pp, ff = closures(face, m)
    out = np.zeros((len(VISEMES), len(pp)))
    out[1], out[2] = pp, ff
    out[10:] = vowels(face, m) * (1 - np.maximum(pp, ff))
    out /= np.maximum(np.add.reduce(out), 1)
    out[0] = np.maximum(1 - np.add.reduce(out), 0)
    return np.ascontiguousarray(out.T, np.float32)


def vrm(face: MovementMeter, m: Movements) -> NDArray[np.float32]:
    """The weights of :data:`VRM`, (T, 14) in 0..1.

    Vowels are together at most 1, emotions and ``neutral`` 1. ``blink`` is what both eyes share,
    ``blinkLeft`` and ``blinkRight`` the rest, so that all three can be applied at once.
    """
    c = expression(face, m)
    out = np.empty((len(VRM), len(m.chin)))
    pp, ff = closures(face, m)
    out[:5] = vowels(face, m)[_VOWELS] * (1 - np.maximum(pp, ff))
    out[5:10] = emotions = _emotions(c)
    out[13] = 1 - np.add.reduce(emotions)
    left, right = c[INDEX["eyeBlinkLeft"]], c[INDEX["eyeBlinkRight"]]
    out[10] = both = np.minimum(left, right)
    out[11], out[12] = left - both, right - both
    return np.ascontiguousarray(unit(out).T, np.float32)


def _emotions(c: Values) -> Values:
    """happy, angry, sad, relaxed, surprised (5, T) from ARKit's (52, T); their sum is at most 1."""
    inner = c[INDEX["browInnerUp"]]
    outer, wide, smile, frown, down = (
        (c[INDEX[f"{name}Left"]] + c[INDEX[f"{name}Right"]]) / 2
        for name in ("browOuterUp", "eyeWide", "mouthSmile", "mouthFrown", "browDown")
    )
    surprised = (inner + outer + wide) / 3
    grief = unit(1.2 * frown + 0.6 * np.maximum(inner - outer, 0) - 0.2)
    parts = np.zeros((5, len(inner)))
    parts[0] = smile
    parts[1] = down * (1 - smile)
    parts[2] = grief * (1 - surprised) * (1 - smile)
    parts[4] = surprised
    return parts / np.maximum(np.add.reduce(parts), 1)
