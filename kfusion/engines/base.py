"""The interface of an engine, which runs a network, and the paths of the bundled model."""

from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

WEIGHTS: Final = Path(__file__).parents[1] / "weights" / "compact.safetensors"
EXPORTED: Final = WEIGHTS.with_suffix(".onnx")
EngineName = Literal["auto", "onnx", "torch", "synthetic"]
ENGINES: Final[tuple[EngineName, ...]] = ("auto", "onnx", "torch", "synthetic")


class Engine(Protocol):
    """Takes a batch of windows and returns displacements; rows do not affect each other.

    ``name`` and ``sha256`` identify the model. ``lanes`` is the number of threads that may call
    ``step`` at once and gain by it.
    """

    name: str
    sha256: str
    lanes: int

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        """``audio`` (B, 16000) at 16 kHz, ``identity`` (B, 68, 2) canonical, ``emotion`` (B, 8).

        Returns displacements (B, 30, 68, 2) in canonical pixels.
        """
        ...
