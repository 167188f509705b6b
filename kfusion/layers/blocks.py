"""Transformer layers and the 1-3-1 bottleneck; they run along time, dimension 1 of (B, T, d)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import FRAMES


class TimeConv(nn.Conv1d):
    """Convolution along time of (B, T, in) -> (B, T / stride, out), zero-padded at both ends.

    The weights are a Conv1d's. One matrix product over the taps is faster on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - Conv1d's own name for it
        reach, stride = self.kernel_size[0] // 2, self.stride[0]
        taps = input
        if reach:
            length = input.shape[1]
            padded = F.pad(input, (0, 0, reach, reach))
            taps = torch.cat(
                [padded[:, k : k + length : stride] for k in range(2 * reach + 1)], dim=-1
            )
        # (out, in, k) -> (out, k in), in the order in which the taps lie.
        return F.linear(taps, self.weight.transpose(1, 2).flatten(1), self.bias)


class Attention(nn.Module):
    """Multi-head attention of queries (B, Q, d) over a memory (B, T, d) -> (B, Q, d)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        k, v = self.kv(memory).chunk(2, dim=-1)
        return self.out(self.attend(self.q(queries), k, v))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Q, d), (B, T, d), (B, T, d) -> (B, Q, d): softmax(q k') v in each head."""
        heads = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        rate = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(*heads, dropout_p=rate)
        return y.transpose(1, 2).flatten(-2)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward block, (B, T, d) -> (B, T, d)."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm_a, self.norm_f = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attention(width, heads, dropout)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_a(x)
        x = x + self.drop(self.attend(y, y))
        return x + self.drop(self.down(F.gelu(self.up(self.norm_f(x)))))


class Encoder(nn.Module):
    """A Transformer encoder, (B, T, d) -> (B, T, d), normalised at its end."""

    def __init__(
        self, layers: int, width: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """Attention over the memory, self-attention among the queries, feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.inner = EncoderLayer(width, heads, feedforward, dropout)
        self.norm = nn.LayerNorm(width)
        self.cross = Attention(width, heads, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        queries = queries + self.drop(self.cross(self.norm(queries), memory))
        return self.inner(queries)


class LandmarkDecoder(nn.Module):
    """D of eq. 5-6: identity (B, K), normalised, and memory (B, C, d) -> (B, C, K).

    The queries are the embedded identity, the frame positions and the memory.
    """

    def __init__(
        self,
        features: int,
        layers: int,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.positions = nn.Parameter(0.02 * torch.randn(FRAMES, width))
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, features)

    def forward(self, identity: Tensor, memory: Tensor) -> Tensor:
        queries = self.embed(identity).unsqueeze(1) + self.positions + memory
        for layer in self.layers:
            queries = layer(queries, memory)
        return self.out(self.norm(queries))


class Bottleneck(nn.Module):
    """B of eq. 10: Conv1d of kernels 1, 3, 1 along time, (B, C, in) -> (B, C, out)."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.down = TimeConv(inputs, inner, 1)
        self.along = TimeConv(inner, inner, 3)
        self.up = TimeConv(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.along(F.gelu(self.down(x)))))


class PlaneBottleneck(nn.Module):
    """B of eq. 10 with time as channels: (B, steps, 2, K) -> (B, C, 2, K), kernels 1, 3 x 3, 1.

    The kernel of 3 x 3 spans x and y and neighbouring points.
    """

    def __init__(self, steps: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(steps, inner, 1)
        self.along = nn.Conv2d(inner, inner, 3, padding=1)
        self.up = nn.Conv2d(inner, FRAMES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.along(F.relu(self.down(x)))))


class StepDecoder(nn.Module):
    """D of eq. 5-6 at the encoder's steps: identity (B, K), memory (B, S, d) -> (B, S, K).

    A convolution makes S queries of the identity; the memory is brought to the K landmark features,
    the width of the decoder.
    """

    def __init__(
        self,
        features: int,
        steps: int,
        layers: int,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.memory = nn.Linear(width, features)
        self.queries = nn.Conv1d(1, steps, 1)
        layer = nn.TransformerDecoderLayer(features, heads, feedforward, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, identity: Tensor, memory: Tensor) -> Tensor:
        return self.decoder(self.queries(identity.unsqueeze(1)), self.memory(memory))


def transformer_encoder(
    layers: int, width: int, heads: int, feedforward: int, dropout: float
) -> nn.TransformerEncoder:
    """A Transformer encoder as it was first published (Vaswani et al. 2017), (B, T, d)."""
    layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
