"""wav2vec 2.0 (Baevski et al. 2020) through transformers: the paper's script encoder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import torch
from torch import Tensor, nn

from kfusion.config import SAMPLE_RATE, WINDOW, ModelConfig
from kfusion.errors import CheckpointError, MissingExtra
from kfusion.layers.encoder import receptive_field
from kfusion.layers.torchaudio_python import torchaudio

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

FEATURES_VERSION: Final = 1
"""Of what :meth:`Wav2Vec2.forward` computes from given weights; stored features are of one."""
UNUSED: Final = "masked_spec_embed"
"""A weight that stands in for masked steps, of which there are none here. Published weights may
lack it; transformers then draws it at random.
"""


def load_transformers() -> Any:
    """The package. Raises :class:`~kfusion.errors.MissingExtra` where it is not installed."""
    with contextlib.suppress(ImportError):
        torchaudio()  # transformers imports it where it is installed, whole or not
    try:
        import transformers
    except ImportError:
        raise MissingExtra(
            "transformers is not installed; pip install 'kfusion[training]' for wav2vec2"
        ) from None
    return transformers


def pretrained(source: str | Path) -> tuple[str, dict[str, Tensor]]:
    """(architecture as JSON, weights) of a wav2vec2 by hub name or folder, or a CheckpointError.

    A hub name is looked for in transformers' own cache first, then on the hub.
    """
    kind = load_transformers().Wav2Vec2Model
    try:
        try:
            model = kind.from_pretrained(str(source), local_files_only=True)
        except (OSError, ValueError):
            if Path(source).is_dir():
                raise
            model = kind.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(
            f"wav2vec2 {str(source)!r}: cannot be loaded ({reason}); wanted a hub name such as "
            "facebook/wav2vec2-base, or a folder that save_pretrained wrote"
        ) from None
    return json.dumps(model.config.to_diff_dict(), sort_keys=True), model.state_dict()


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Of the names, shapes and float32 values of a wav2vec2's weights, without the unused one."""
    digest = hashlib.sha256()
    for name in sorted(set(weights) - {UNUSED}):
        values = weights[name].detach().float().cpu().contiguous()
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """``source``, a hub name or folder, has weights of this sha256."""

    source: str
    sha256: str


class Wav2Vec2(nn.Module):
    """Audio (B, 16000) -> features (B, S, width); S = 49 and width = 768 for the base model.

    ``times`` (S,): seconds at the centres of the steps. Frozen, it keeps no gradients. Fine-tuned,
    it neither masks features nor skips layers: no seed of a run reaches their generators, and
    several processes would wait for the gradient of a skipped layer.

    ``origin``: whose weights these are, unchanged. A checkpoint names it instead of repeating them.
    """

    origin: Origin | None = None

    def __init__(self, architecture: str, frozen: bool) -> None:
        super().__init__()
        if not architecture:
            raise CheckpointError(
                "model config: wav2vec2 is empty; wanted its architecture "
                "(KFusion.with_wav2vec2 reads it with the weights)"
            )
        transformers = load_transformers()
        try:
            config = transformers.Wav2Vec2Config(**json.loads(architecture))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"model config: wav2vec2 is no architecture ({error})") from None
        config.apply_spec_augment, config.layerdrop = False, 0.0
        self.model: Wav2Vec2Model = transformers.Wav2Vec2Model(config)
        self.frozen = frozen
        self.width = int(config.hidden_size)
        field, stride = receptive_field(config.conv_kernel, config.conv_stride)
        steps = (WINDOW - field) // stride + 1
        self.times = (torch.arange(steps) * stride + field / 2) / SAMPLE_RATE
        self.model.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Wav2Vec2:
        super().train(mode)
        self.model.train(mode and not self.frozen)
        return self

    def come_from(self, source: str | Path) -> None:
        """Notes as :attr:`origin` that the weights are those of a hub name or folder."""
        folder = Path(source)
        name = str(folder.resolve()) if folder.is_dir() else str(source)
        self.origin = Origin(name, weights_sha256(self.model.state_dict()))

    def forward(self, audio: Tensor) -> Tensor:
        variance, mean = torch.var_mean(audio, dim=1, keepdim=True, correction=0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            out = self.model((audio - mean) / torch.sqrt(variance + 1e-7))
        return out.last_hidden_state


class AroundWav2Vec2(Protocol):
    """A network with a wav2vec2 in it, where its configuration says so."""

    @property
    def wav2vec2(self) -> Wav2Vec2 | None: ...


N = TypeVar("N", bound=AroundWav2Vec2)


def around_pretrained(
    make: Callable[[ModelConfig], N], config: ModelConfig, source: str | Path
) -> N:
    """A new network around pretrained wav2vec2 weights, by hub name or local folder.

    Raises :class:`~kfusion.errors.CheckpointError` where they cannot be loaded.
    """
    architecture, weights = pretrained(source)
    network = make(replace(config, content="wav2vec2", wav2vec2=architecture))
    assert network.wav2vec2 is not None
    network.wav2vec2.model.load_state_dict(weights)
    network.wav2vec2.come_from(source)
    return network
