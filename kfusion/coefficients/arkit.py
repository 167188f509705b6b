"""ARKit's 52 coefficients (Apple's ARFaceAnchor.BlendShapeLocation) from what moved on a face.

0 at rest, 1 at the strongest; left and right are the face's own. See docs/coefficients.md.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.coefficients.movements import MovementMeter, Movements, Values

# fmt: off
ARKIT52: Final[tuple[str, ...]] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft",
    "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft",
    "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)
"""In the order of Apple's header ARFaceAnchor.h, which is alphabetical."""

UNKNOWN: Final[tuple[str, ...]] = (
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft",
    "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "jawForward", "mouthDimpleLeft", "mouthDimpleRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)
"""What 68 points in a plane cannot tell; always 0."""

LIVE_LINK_FACE: Final[tuple[str, ...]] = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft",
    "EyeSquintLeft", "EyeWideLeft",
    "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight",
    "EyeSquintRight", "EyeWideRight",
    "JawForward", "JawLeft", "JawRight", "JawOpen",
    "MouthClose", "MouthFunnel", "MouthPucker", "MouthLeft", "MouthRight",
    "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight",
    "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight",
    "MouthRollLower", "MouthRollUpper", "MouthShrugLower", "MouthShrugUpper",
    "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft", "MouthLowerDownRight",
    "MouthUpperUpLeft", "MouthUpperUpRight",
    "BrowDownLeft", "BrowDownRight", "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight",
    "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight",
    "TongueOut",
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)
# fmt: on
"""The 61 values of a Live Link Face packet: the order of Unreal's EARFaceBlendShape. (The app's CSV
files have JawRight before JawLeft and MouthRight before MouthLeft.)"""

INDEX: Final = {name: k for k, name in enumerate(ARKIT52)}
_SHAPES: Final = [INDEX[name[0].lower() + name[1:]] for name in LIVE_LINK_FACE[:52]]
_HEAD_ROLL: Final = LIVE_LINK_FACE.index("HeadRoll")

# Full scale, mm. Where a study gives how far people can move, it is the mean less one standard
# deviation, which most people reach.
JAW_OPEN: Final = 24.0
"""Half of how far people can open: 48.8 mm between the incisors (Zawawi et al. 2003, J Can Dent
Assoc 69:737). Speech opens the jaw half to a quarter as far as chewing does."""
BROW_UP: Final = 8.1
"""Brow raised: 10.57 mm, SD 2.51; smile below: the mouth's corner moves 9.28 mm, SD 2.83
("Objective computerized evaluation of normal patterns of facial muscles contraction", Braz J
Otorhinolaryngol, 12 adults)."""
BROW_DOWN: Final = 4.5
"""Action unit 4 at full strength in :mod:`kfusion.emotion`."""
CORNER: Final = 4.6
"""A smile moves the corners 6.45 mm (see :data:`BROW_UP`) at 47 degrees (Tarantili, Halazonetis &
Spyropoulos 2005, Am J Orthod Dentofacial Orthop 128:8): 4.4 outwards, 4.7 up. Down: the same."""
STRETCH: Final = 6.5
"""A smile widens the mouth by 27 % (Tarantili et al.), half of it a side."""
LIPS: Final = 6.9
"""A smile raises the upper lip by 28 % of its height (Tarantili et al.), which is 24.0-25.5 mm; for
the lower lip the same."""
SIDEWAYS: Final = 8.0
"""Jaw or whole mouth to a side; the least that counts as a normal excursion of the jaw."""

# Full scale, in shares of the face's own. These are this project's choice; docs/coefficients.md
# has what they give on real faces.
SHUT: Final = 0.85  # of the eye's opening: trackers keep a slit where lids touch
SQUINT: Final = 0.25  # of the eye's opening, by the lower lid
WIDE: Final = 0.3  # of the eye's opening
NARROW: Final = 0.2  # of the mouth's width
SLACK: Final = 0.1  # of a lip's red: so much thinner means nothing
THIN: Final = 0.6  # of a lip's red, beyond that

PARTED: Final = 4.0  # mm between the lips at which they count as open
SAG: Final = 0.5  # mm that a mouth's corner goes down in any speech
WANDER: Final = 1.0  # mm to the side that mean nothing


def unit(values: Values) -> Values:
    """Cut off below 0 and above 1."""
    return np.minimum(np.maximum(values, 0.0), 1.0)


def _sides(name: str) -> slice:
    left = INDEX[f"{name}Left"]
    assert ARKIT52[left + 1] == f"{name}Right"
    return slice(left, left + 2)


_BROW_DOWN, _BROW_OUTER_UP = _sides("browDown"), _sides("browOuterUp")
_EYE_BLINK, _EYE_SQUINT, _EYE_WIDE = _sides("eyeBlink"), _sides("eyeSquint"), _sides("eyeWide")
_SMILE, _FROWN, _STRETCH = _sides("mouthSmile"), _sides("mouthFrown"), _sides("mouthStretch")
_PRESS, _UPPER_UP = _sides("mouthPress"), _sides("mouthUpperUp")
_LOWER_DOWN = _sides("mouthLowerDown")
(
    _BROW_INNER_UP, _JAW_OPEN, _JAW_LEFT, _JAW_RIGHT, _CLOSE, _LEFT, _RIGHT, _FUNNEL, _PUCKER,
    _SHRUG_LOWER, _SHRUG_UPPER, _ROLL_UPPER, _ROLL_LOWER,
) = (
    INDEX[name]
    for name in (
        "browInnerUp", "jawOpen", "jawLeft", "jawRight", "mouthClose", "mouthLeft", "mouthRight",
        "mouthFunnel", "mouthPucker", "mouthShrugLower", "mouthShrugUpper", "mouthRollUpper",
        "mouthRollLower",
    )
)  # fmt: skip


def arkit52(face: MovementMeter, m: Movements) -> NDArray[np.float32]:
    """The coefficients of :data:`ARKIT52`, (T, 52) in 0..1."""
    out = np.zeros((len(ARKIT52), len(m.chin)))
    _brows(m, out)
    _eyes(face, m, out)
    _corners(m, out)
    _jaw(m, out)
    _lips(face, m, out)
    return np.ascontiguousarray(unit(out).T, np.float32)


def expression(face: MovementMeter, m: Movements) -> Values:
    """Brows, eyes and corners of the mouth alone, the rest 0: (52, T) in 0..1."""
    out = np.zeros((len(ARKIT52), len(m.chin)))
    _brows(m, out)
    _eyes(face, m, out)
    _corners(m, out)
    return unit(out)


def _brows(m: Movements, out: Values) -> None:
    out[_BROW_DOWN] = m.brow_frown / -BROW_DOWN
    out[_BROW_INNER_UP] = (m.brow_inner[0] + m.brow_inner[1]) / (2 * BROW_UP)
    out[_BROW_OUTER_UP] = m.brow_outer / BROW_UP


def _eyes(face: MovementMeter, m: Movements, out: Values) -> None:
    shut = m.eye_closing / face.eye
    # In a blink the lower lid moves little; what it does beyond that is a squint.
    squint = unit((m.lower_lid - 0.15 * np.maximum(m.eye_closing, 0)) / (SQUINT * face.eye))
    closed = unit(shut / SHUT)
    out[_EYE_SQUINT] = squint
    out[_EYE_BLINK] = closed - 0.3 * squint * (1 - closed)
    out[_EYE_WIDE] = shut / -WIDE


def _jaw(m: Movements, out: Values) -> None:
    out[_JAW_OPEN] = m.jaw / JAW_OPEN
    out[_CLOSE] = (m.jaw - np.maximum(m.gap, 0)) / JAW_OPEN
    out[_SHRUG_LOWER] = m.chin / -LIPS
    out[_JAW_LEFT] = (m.chin_left - WANDER) / SIDEWAYS
    out[_JAW_RIGHT] = (-m.chin_left - WANDER) / SIDEWAYS
    out[_LEFT] = (m.mouth_left - WANDER) / SIDEWAYS
    out[_RIGHT] = (-m.mouth_left - WANDER) / SIDEWAYS


def _corners(m: Movements, out: Values) -> None:
    # A jaw that opens, and lips that round, take the corners down; the rest is their own.
    up = m.corner_up + 0.4 * np.maximum(m.jaw, 0) + 0.25 * np.maximum(-m.corner_out, 0)
    smile = np.maximum(np.minimum(m.corner_out, up), 0)
    out[_SMILE] = smile / CORNER
    out[_FROWN] = (-up - SAG) / (CORNER - SAG)
    out[_STRETCH] = (m.corner_out - smile) / STRETCH


def narrowing(face: MovementMeter, m: Movements) -> Values:
    """How much narrower than at rest the mouth is, of :data:`NARROW`; negative if wider, (T,)."""
    return m.mouth_wider / (-NARROW * face.mouth)


def _lips(face: MovementMeter, m: Movements, out: Values) -> None:
    parted = unit(m.gap / PARTED)
    together = 1 - parted
    narrow = unit(narrowing(face, m))
    out[_FUNNEL] = narrow * parted
    out[_PUCKER] = narrow * together

    out[_UPPER_UP] = m.upper_lip / LIPS * parted
    out[_SHRUG_UPPER] = m.upper / LIPS * together
    out[_LOWER_DOWN] = (m.lower_lip - m.jaw) / LIPS

    # Lips that are pulled wide are thin too; that is no roll and no press.
    wide = np.maximum(m.mouth_wider, 0) / face.mouth
    thin = unit((m.vermilion / -face.vermilion - wide - SLACK) / THIN)
    press = np.minimum(thin[0], thin[1]) * together
    out[_PRESS] = press
    out[_ROLL_UPPER], out[_ROLL_LOWER] = thin - press


def live_link_face(coefficients: NDArray[Any], roll: NDArray[Any] | None = None) -> NDArray[Any]:
    """(T, 52) of :data:`ARKIT52` -> (T, 61) of :data:`LIVE_LINK_FACE`.

    ``roll`` (T,): the head's roll in radians, clockwise in the image. Like Unreal's own sender, it
    is sent as a share of 180 degrees; yaw, pitch and eye rotations are not known and 0.
    """
    values = np.zeros((len(coefficients), len(LIVE_LINK_FACE)), np.float32)
    values[:, : len(_SHAPES)] = coefficients[:, _SHAPES]
    if roll is not None:
        values[:, _HEAD_ROLL] = roll / np.pi
    return values
