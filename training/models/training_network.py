"""A network as it is trained: with outputs for the loss alone, and a moving average."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kfusion.errors import DataError
from kfusion.layers.kan import KAN
from kfusion.model import KFusion
from training.data.batch import Batch
from training.models.networks import Network
from training.phones import PHONES


@dataclass(frozen=True)
class Outputs:
    """``displacement`` (B, 30, 68, 2); where they are learned, logits of the ``phones`` (B, S, 40);
    of a KFusion, the input of its head, ``fused`` (B, 30, 136).
    """

    displacement: Tensor
    phones: Tensor | None = None
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
        inputs = (batch.audio, batch.identity, batch.emotion, batch.stretch)
        if not isinstance(self.network, KFusion):
            return Outputs(self.network.displacement(*inputs))
        displacement, auxiliary = self.network.displacement_and_auxiliary(*inputs)
        logits = None if self.phones is None else self.phones(auxiliary.script)
        return Outputs(displacement, logits, auxiliary.fused)


class MovingAverage:
    """An exponential moving average of a network's weights; with ``decay`` 0 the network itself."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network, self.decay = network, decay
        if decay:
            self.network = type(network)(network.config)
            self.network.load_state_dict(network.state_dict())
            self.network.to(next(network.parameters()).device).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """After a step; over the first steps the average is shorter."""
        if not self.decay:
            return
        decay = min(self.decay, step / (9 + step))
        for kept, new in zip(self.network.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def fit_kan_grids(
    kan: KAN,
    inputs: Tensor,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
    broadcast: Callable[[nn.Module], None],
) -> None:
    """Fits a KAN's grids to (B, C, F); its average and optimizer moments begin anew."""
    kan.update_grid(inputs.float().flatten(0, 1))
    broadcast(kan)
    average.network.get_submodule("head").load_state_dict(kan.state_dict())
    for parameter in kan.parameters():
        optimizer.state.pop(parameter, None)
