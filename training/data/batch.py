"""One window of a clip, and several as the tensors of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from training.phones import PhoneTrack


@dataclass(frozen=True)
class TrainingWindow:
    """One second of a clip, and what the face did.

    ``audio`` (16000,); ``identity`` (68, 2), the reference face at rest, canonical; ``emotion``
    (8,); ``target`` (30, 68, 2) displacements in canonical pixels; ``mask`` (30,), 0 where the
    truth is unknown; ``phones`` (50,) of every 20 ms; ``stretch``, a factor of the mel axis;
    ``index``, the sample's number. For augmentation: ``times`` (30,) of the frames and ``end`` of
    the clip in its seconds, at the speed it is played at; ``rest_offset`` (68, 2), the displacement
    of the clip's own face at rest, 0 unless the reference is another clip's.
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


@dataclass(frozen=True)
class Batch:
    """The fields of B windows that a network is trained on, (B, ...); ``phones`` are int64."""

    audio: torch.Tensor
    identity: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    stretch: torch.Tensor
    phones: torch.Tensor
    index: torch.Tensor

    @classmethod
    def of(cls, windows: Sequence[TrainingWindow]) -> Batch:
        columns = {f.name: np.stack([getattr(w, f.name) for w in windows]) for f in fields(cls)}
        integers = {
            name: torch.from_numpy(columns.pop(name)).long() for name in ("phones", "index")
        }
        floats = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in columns.items()}
        return cls(**floats, **integers)

    def to(self, device: str) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))
