"""One window of a clip, and several as the tensors of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.phones import PhoneTrack

NO_FEATURES: Final = np.zeros((0, 0), np.float16)


@dataclass(frozen=True)
class TrainingWindow:
    """One second of a clip, and what the face did.

    ``audio`` (16000,); ``identity`` (68, 2), the reference face at rest, canonical; ``emotion``
    (8,); ``target`` (30, 68, 2) displacements in canonical pixels; ``mask`` (30,), 0 where the
    truth is unknown; ``phones`` (50,) of every 20 ms; ``stretch``, a factor of the mel axis;
    ``index``, the sample's number. For augmentation: ``times`` (30,) of the frames and ``end`` of
    the clip in its seconds, at the speed it is played at; ``rest_offset`` (68, 2), the displacement
    of the clip's own face at rest, 0 unless the reference is another clip's. ``features`` (S, d),
    float16: wav2vec2's of the clip's own sound, empty where they are not stored.
    """

    audio: NDArray[np.float32]
    identity: NDArray[np.float32]
    emotion: NDArray[np.float32]
    target: NDArray[np.float64]
    mask: NDArray[np.float32]
    phones: PhoneTrack
    index: int
    times: NDArray[np.float64]
    end: float
    rest_offset: NDArray[np.float32]
    stretch: float = 1.0
    features: NDArray[np.float16] = field(default_factory=lambda: NO_FEATURES)


@dataclass(frozen=True)
class Batch:
    """The fields of B windows that a network is trained on, (B, ...); ``phones`` are int64 and
    ``features`` float16.
    """

    audio: torch.Tensor
    identity: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    stretch: torch.Tensor
    features: torch.Tensor
    phones: torch.Tensor
    index: torch.Tensor

    @classmethod
    def of(cls, windows: Sequence[TrainingWindow]) -> Batch:
        columns = {f.name: np.stack([getattr(w, f.name) for w in windows]) for f in fields(cls)}
        kinds = {"features": np.float16, "phones": np.int64, "index": np.int64}
        return cls(**{
            name: torch.from_numpy(np.asarray(column, kinds.get(name, np.float32)))
            for name, column in columns.items()
        })  # fmt: skip

    def to(self, device: str) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin_memory(self) -> Batch:
        """What torch's loader calls where it pins memory, for copies that do not wait."""
        return Batch(*(getattr(self, f.name).pin_memory() for f in fields(self)))
