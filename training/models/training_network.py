"""A network as it is trained: with outputs for the loss alone, a moving average, and its state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kfusion.errors import DataError
from kfusion.layers.kan import KAN
from kfusion.layers.wav2vec2 import Wav2Vec2
from kfusion.model import KFusion
from training.data.batch import Batch
from training.models.networks import Network
from training.phones import PHONES


@dataclass(frozen=True)
class Outputs:
    """``displacement`` (B, 30, 68, 2); where they are learned, logits of the ``phones`` (B, S, 40);
    of a KFusion its ``script`` (B, S, d) and the input of its head, ``fused``, as of
    :class:`kfusion.model.Auxiliary`.
    """

    displacement: Tensor
    phones: Tensor | None = None
    script: Tensor | None = None
    fused: Tensor | None = None


class TrainingNetwork(nn.Module):
    """The network with a forward of the whole batch, as data-parallel training needs it.

    With ``phones`` a linear layer names phones from the Content Domain's script; checkpoints are
    saved without it.
    """

    def __init__(self, network: Network, *, phones: bool) -> None:
        super().__init__()
        self.network, self.phones = network, None
        if phones:
            if not isinstance(network, KFusion) or network.config.content != "mel":
                raise DataError("--phones is for the Content Domain of a preset without wav2vec2")
            self.phones = nn.Linear(network.config.width, len(PHONES))

    def forward(self, batch: Batch) -> Outputs:
        outputs = network_outputs(self.network, batch)
        if self.phones is None or outputs.script is None:
            return outputs
        return replace(outputs, phones=self.phones(outputs.script))


def network_outputs(network: Network, batch: Batch) -> Outputs:
    """What a network answers to a batch, from the batch's stored features of wav2vec2 if any."""
    stored = batch.features.float() if batch.features.numel() else None
    sound, content = network.features(batch.audio, batch.stretch, stored)
    inputs = sound, content, batch.identity, batch.emotion
    if not isinstance(network, KFusion):
        return Outputs(network.decode(*inputs))
    displacement, auxiliary = network.decode_and_auxiliary(*inputs)
    return Outputs(displacement, script=auxiliary.script, fused=auxiliary.fused)


def frozen_wav2vec2(network: Network) -> Wav2Vec2 | None:
    """The network's wav2vec2, where it has one that is not trained."""
    encoder = network.wav2vec2
    return encoder if encoder is not None and encoder.frozen else None


def share_frozen(network: Network, other: Network) -> None:
    """Gives a network another's wav2vec2, which is then both's, where it is frozen in both."""
    theirs = frozen_wav2vec2(other)
    if theirs is not None and frozen_wav2vec2(network) is not None:
        owner = network if isinstance(network, KFusion) else network.sound
        owner.wav2vec2 = theirs


class TrainedState:
    """The state of a module as a run saves it: without frozen weights, which no step changes."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.frozen = tuple(
            f"{name}."
            for name, part in module.named_modules()
            if isinstance(part, Wav2Vec2) and part.frozen
        )

    def state_dict(self) -> dict[str, Any]:
        state = self.module.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(self.frozen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises RuntimeError for a state that does not fit, as torch does."""
        own = self.module.state_dict()
        kept = {name: value for name, value in own.items() if name.startswith(self.frozen)}
        self.module.load_state_dict({**state, **kept})


class MovingAverage:
    """An exponential moving average of a network's weights; with ``decay`` 0 the network itself."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network, self.decay = network, decay
        if decay:
            self.network = type(network)(network.config)
            self.network.load_state_dict(network.state_dict())
            share_frozen(self.network, network)
            self.network.to(next(network.parameters()).device).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """After a step; over the first steps the average is shorter."""
        if not self.decay:
            return
        decay = min(self.decay, step / (9 + step))
        for kept, new in zip(self.network.parameters(), network.parameters(), strict=True):
            if new.requires_grad:
                kept.lerp_(new, 1 - decay)


def fit_kan_grids(
    kan: KAN,
    inputs: Tensor,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
    broadcast: Callable[[nn.Module], None],
) -> None:
    """Fits a KAN's grids to (..., F); its average and optimizer moments begin anew."""
    kan.update_grid(inputs.float().flatten(0, -2))
    broadcast(kan)
    average.network.get_submodule("head").load_state_dict(kan.state_dict())
    for parameter in kan.parameters():
        optimizer.state.pop(parameter, None)
