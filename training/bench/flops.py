"""The arithmetic work of a window: what torch counts, and by formula what it does not see."""

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kfusion.config import WINDOW
from kfusion.layers.encoder import LogMel
from kfusion.layers.kan import KANLayer
from kfusion.layers.mel import N_FFT, STRIDE
from kfusion.model import KFusion

SPLINE_FLOPS: Final = 13
"""Of one spline of :func:`kfusion.layers.kan.cubic_basis`: |z| 2, 2 - z and 1 - z clamped 4,
two cubes 4, 4 b, a - b and / 6."""


@dataclass(frozen=True)
class Flops:
    """Of one window, a multiply-add being two. Elementwise work and norms are left out.

    ``counted`` is torch's own count: matrix products, convolutions, attention. What it does not
    see is analytic: ``lstm`` 8 H (I + H) a step (a GRU's 6), ``fft`` 2.5 N log2 N a real transform
    (half of the usual 5 N log2 N), ``splines`` the bases of the KAN.
    """

    counted: int
    lstm: int
    fft: int
    splines: int

    @property
    def total(self) -> int:
        return self.counted + self.lstm + self.fft + self.splines


def count_flops(model: KFusion) -> Flops:
    """Of one window, by running it once where the network lies."""
    lstm = fft = splines = seen = unwanted = 0

    def before(*_: Any) -> None:
        nonlocal seen
        seen = counter.get_total_flops()

    def after_lstm(module: nn.LSTM | nn.GRU, given: tuple[Tensor], _: Any) -> None:
        nonlocal lstm, unwanted
        unwanted += counter.get_total_flops() - seen  # some backends are seen, some are not
        rows, steps, _width = given[0].shape
        gates = 3 if isinstance(module, nn.GRU) else 4
        sides = module.input_size + module.hidden_size
        lstm += rows * steps * 2 * gates * module.hidden_size * sides

    def after_mel(_: LogMel, given: tuple[Tensor], __: Any) -> None:
        nonlocal fft
        fft += int(given[0].shape[1] // STRIDE * 2.5 * N_FFT * math.log2(N_FFT))

    def after_kan(layer: KANLayer, given: tuple[Tensor], _: Any) -> None:
        nonlocal splines
        splines += given[0].numel() * (2 + layer.splines * SPLINE_FLOPS)

    counter = FlopCounterMode(display=False)
    hooks: list[Any] = []
    for module in model.modules():
        if isinstance(module, (nn.LSTM, nn.GRU)):
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after_lstm))
        elif isinstance(module, LogMel):
            hooks.append(module.register_forward_hook(after_mel))
        elif isinstance(module, KANLayer):
            hooks.append(module.register_forward_hook(after_kan))
    device = next(model.parameters()).device
    window = (torch.zeros(1, *s, device=device) for s in ((WINDOW,), (68, 2), (8,)))
    # The fused attention of the CPU is not counted; its plain form is, and is the same work.
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.displacement(*window)
    finally:
        for hook in hooks:
            hook.remove()
    return Flops(counter.get_total_flops() - unwanted, lstm, fft, splines)
