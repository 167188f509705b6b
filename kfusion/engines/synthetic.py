"""Engine without a network: mouth opening from loudness, for clients' tests and load tests."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion import emotion as emotions
from kfusion.config import FRAMES, WINDOW
from kfusion.landmarks import NEUTRAL_INTER_OCULAR


class SyntheticEngine:
    """The mouth opens with loudness, and the emotion moves the face; NumPy only."""

    name = "synthetic"
    sha256 = ""
    lanes = 1

    _FRAME_STARTS: Final = np.arange(FRAMES) * WINDOW // FRAMES

    def __init__(self) -> None:
        jaw = {57: 1.0, 56: 0.95, 58: 0.95, 55: 0.6, 59: 0.6, 65: 0.9, 66: 1.0, 67: 0.9, 8: 0.9,
               7: 0.85, 9: 0.85, 6: 0.6, 10: 0.6, 5: 0.3, 11: 0.3}  # fmt: skip
        lift = {61: -0.12, 62: -0.15, 63: -0.12, 50: -0.08, 51: -0.1, 52: -0.08}
        self._open = np.zeros((68, 2), np.float32)
        for i, y in {**jaw, **lift}.items():
            self._open[i, 1] = y * 0.11 * NEUTRAL_INTER_OCULAR
        table = emotions.DISPLACEMENT * NEUTRAL_INTER_OCULAR
        self._emotions = table.astype(np.float32)

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        power = np.add.reduceat(np.square(audio, dtype=np.float32), self._FRAME_STARTS, axis=1)
        loudness = np.sqrt(power * np.float32(FRAMES / WINDOW))
        opening = np.clip((loudness - 0.004) / 0.12, 0, 1)
        padded = np.pad(opening, ((0, 0), (1, 1)), mode="edge")
        opening = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        opened = opening[:, :, None, None] * self._open
        # A plain sum, row by row: a matrix product may round differently with the batch's size.
        expression = (emotion.astype(np.float32)[:, :, None, None] * self._emotions).sum(axis=1)
        return opened + expression[:, None]
