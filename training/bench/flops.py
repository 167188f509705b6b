"""The arithmetic work of a window: what torch counts, and by formula what it does not see."""

import math
from contextlib import ExitStack
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


def count_flops(model: KFusion) -> int:
    """Operations of one window, a multiply-add being two; elementwise work and norms are left out.

    torch counts matrix products, convolutions and attention. By formula are added: 8 H (I + H) for
    a step of an LSTM (a GRU's 6), 2.5 N log2 N for a real Fourier transform (half of the usual
    5 N log2 N), and the bases of the KAN's splines.
    """
    added = counted_before = 0

    def before_lstm(*_: Any) -> None:
        nonlocal counted_before
        counted_before = counter.get_total_flops()

    def after_lstm(module: nn.LSTM | nn.GRU, inputs: tuple[Tensor], _: Any) -> None:
        nonlocal added
        added -= counter.get_total_flops() - counted_before  # torch counts only some backends
        rows, steps, _width = inputs[0].shape
        gates = 3 if isinstance(module, nn.GRU) else 4
        sides = module.input_size + module.hidden_size
        added += rows * steps * 2 * gates * module.hidden_size * sides

    def after_mel(_: LogMel, inputs: tuple[Tensor], __: Any) -> None:
        nonlocal added
        added += int(inputs[0].shape[1] // STRIDE * 2.5 * N_FFT * math.log2(N_FFT))

    def after_kan(layer: KANLayer, inputs: tuple[Tensor], _: Any) -> None:
        nonlocal added
        added += inputs[0].numel() * (2 + layer.splines * SPLINE_FLOPS)

    counter = FlopCounterMode(display=False)
    device = next(model.parameters()).device
    window = (torch.zeros(1, *s, device=device) for s in ((WINDOW,), (68, 2), (8,)))
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, (nn.LSTM, nn.GRU)):
                hooks.enter_context(module.register_forward_pre_hook(before_lstm))
                hooks.enter_context(module.register_forward_hook(after_lstm))
            elif isinstance(module, LogMel):
                hooks.enter_context(module.register_forward_hook(after_mel))
            elif isinstance(module, KANLayer):
                hooks.enter_context(module.register_forward_hook(after_kan))
        # The fused attention of the CPU is not counted; its plain form is, and is the same work.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.displacement(*window)
    return counter.get_total_flops() + added
