"""LD and LVD as the authors' published script computes them, to set beside their Table 2.

Read from ``metrix/LM.py``, ``module/KFusionLM.py`` and ``dataloader/dataloader.py`` of
https://github.com/sowwnn/KFusion-Dual-Domain-for-Speech-to-Landmarks. They are no distances in
pixels: both grow with the square root of the batch size and of the number of points.

A batch is y (B, 30, 2, K): B windows of 1 s in pixels x of the 256 x 256 crop, not aligned, scaled
as their loader does, y = (x - 56) / (243 - 56). That is their last version, of October 2024. That
of July 2024 (commit 185ed6e, "ACCV version") has y = x / 256, whose figures are 187 / 256 of these.

    LD  = || y^ - y ||                                the root of the sum of all squares
    LVD = || v^ - v ||,   v_k = y_0 - y_k,  k = 0 .. K - 2

so that the "velocity" is each point seen from the first one, within one frame, and no time is in
it. The mouth's first point is 49 and its last, left out of v, is 48, as in their list of points.
Figures are means over whole batches; what does not fill a batch is left out, as in their loader.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FRAMES

LEAST_PX: Final = 56.0
GREATEST_PX: Final = 243.0
"""Their loader maps LEAST_PX .. GREATEST_PX to 0 .. 1."""
AUTHORS_BATCH: Final = 4
"""The batch size in the authors' config/exp.json."""
MOUTH_ORDER: Final = (*range(49, 68), 48)


def legacy_ld(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Of a batch (B, 30, K, 2) as their loader scales it."""
    return float(np.sqrt(np.square(predicted - truth).sum()))


def legacy_lvd(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Of a batch (B, 30, K, 2) as their loader scales it."""

    def velocity(y: NDArray[Any]) -> NDArray[Any]:
        return y[:, :, :1] - y[:, :, :-1]

    return legacy_ld(velocity(predicted), velocity(truth))


class Legacy:
    """Fills batches with the whole seconds of one clip after another, and keeps sums only."""

    def __init__(self, batch: int = AUTHORS_BATCH) -> None:
        self.batch = batch
        self.batches = 0
        self.sums = np.zeros(4)
        self.waiting: list[NDArray[Any]] = []  # windows (2, 30, 68, 2): prediction, truth

    def add(self, predicted: NDArray[Any], truth: NDArray[Any]) -> None:
        """Takes a clip's frames (T, 68, 2), in pixels of the 256 x 256 crop."""
        both = np.stack([predicted, truth]).astype(np.float64)
        both = (both - LEAST_PX) / (GREATEST_PX - LEAST_PX)
        for start in range(0, both.shape[1] - FRAMES + 1, FRAMES):
            self.waiting.append(both[:, start : start + FRAMES])
            if len(self.waiting) == self.batch:
                self._score(*np.stack(self.waiting, axis=1))
                self.waiting = []

    def _score(self, predicted: NDArray[Any], truth: NDArray[Any]) -> None:
        mouth = predicted[:, :, MOUTH_ORDER], truth[:, :, MOUTH_ORDER]
        self.sums += (
            legacy_ld(*mouth),
            legacy_lvd(*mouth),
            legacy_ld(predicted, truth),
            legacy_lvd(predicted, truth),
        )
        self.batches += 1

    @property
    def row(self) -> dict[str, float]:
        """Means over the batches; nan where the clips fill none."""
        means = self.sums / self.batches if self.batches else np.full(4, np.nan)
        names = ("m_ld", "m_lvd", "f_ld", "f_lvd")
        return {f"legacy_{k}": float(v) for k, v in zip(names, means, strict=True)}
