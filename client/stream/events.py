"""The events of a stream, as its reader gets them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kfusion import wire


@dataclass(frozen=True, eq=False)
class Frame:
    """The face at ``t`` = ``n`` / 30 s after the first sample; ``points`` (68, 2) float32.

    ``arkit52`` (52,) and ``vrm`` (14,), float32 in 0..1, if the stream has these outputs. Their
    names, in order, are ``ready.outputs["arkit52"]`` and ``ready.outputs["vrm"]``.
    """

    n: int
    t: float
    points: NDArray[np.float32]
    arkit52: NDArray[np.float32] | None = None
    vrm: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Reconnecting:
    """The connection is lost; attempt number ``attempt`` to open another follows in ``wait_s``."""

    attempt: int
    wait_s: float
    why: str


@dataclass(frozen=True)
class Resumed:
    """Another connection resumed the stream, ``away_s`` after the loss.

    ``silence``: samples that were lost and count as silence; 0 where all audio is sent again.
    """

    attempts: int
    away_s: float
    silence: int


Event = (
    Frame
    | wire.EmotionSet
    | wire.IdentitySet
    | wire.MarkReached
    | wire.ResetDone
    | wire.Dropped
    | wire.Error
    | wire.End
    | Reconnecting
    | Resumed
)
"""The events of a stream, in the order of the wire. ``wire.Error`` here is never fatal."""
