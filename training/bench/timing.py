"""Times of calls that take turns, so that a busy or throttled machine slows all of them alike."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import torch

from kfusion.errors import KFusionError

YARDSTICK: Final = 1024
"""The yardstick is (N, N) @ (N, N) in float32."""
TURN: Final = 0.15
"""Seconds that calls keep the machine before the next ones get it, and that they run unmeasured
first: ONNX Runtime's threads spin for about 0.1 s after their last work, and slow what follows."""


class BenchmarkError(KFusionError):
    """A benchmark that does not exist or cannot be run here."""


def interleaved(calls: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Milliseconds of each call, the calls taking turns until ``seconds`` are over.

    Each is warmed up first, and again as a turn begins where calls are shorter than a turn. Three
    measurements at least.
    """
    times: list[list[float]] = [[] for _ in calls]
    last = [0.0] * len(calls)
    for k, call in enumerate(calls):
        for _ in range(2):
            start = perf_counter()
            call()
            last[k] = perf_counter() - start
            if last[k] > 1:
                break
    end = perf_counter() + seconds
    while len(times[0]) < 3 or perf_counter() < end:
        for k, call in enumerate(calls):
            turn = perf_counter()
            while last[k] < TURN and perf_counter() - turn < TURN:
                call()
            turn = perf_counter()
            while True:
                start = perf_counter()
                call()
                stop = perf_counter()
                last[k] = stop - start
                times[k].append(1e3 * last[k])
                if stop - turn > TURN:
                    break
    return times


def synchronised(device: str, call: Callable[[], object]) -> Callable[[], None]:
    """The call, over only when its work on the device is."""

    def run() -> None:
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


def yardstick(device: str) -> Callable[[], None]:
    a, b = torch.randn(2, YARDSTICK, YARDSTICK, device=device)
    out = torch.empty_like(a)
    return synchronised(device, lambda: torch.mm(a, b, out=out))
