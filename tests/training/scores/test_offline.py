"""Windows of several clips in a step give what each clip gives alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kfusion.landmarks import NEUTRAL
from kfusion.runtime import Animator, SyntheticEngine
from tests.conftest import voice
from tests.training.small_train import TINY
from training.models.networks import Network, NetworkEngine, build
from training.scores.offline import Request, animate_clips


def requests() -> list[Request]:
    return [
        (voice(seconds, seed=k), NEUTRAL * scale + k, emotion)
        for k, (seconds, scale, emotion) in enumerate(
            [(0.4, 1.0, {}), (1.7, 0.5, {"happy": 1.0}), (0.05, 2.0, {}), (1.1, 1.0, {"sad": 0.5})]
        )
    ]


def moving_network() -> Network:
    """A network with random weights; a new one answers the identity."""
    torch.manual_seed(0)
    network = build("kfusion", TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


class Counted(SyntheticEngine):
    """Keeps how many windows each step had."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        self.steps.append(len(audio))
        return super().step(audio, identity, emotion)


@pytest.mark.parametrize(("hop", "lookahead"), [(30, 0), (3, 3), (3, 0)])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_frames_are_those_of_each_clip_alone(hop: int, lookahead: int, batch: int) -> None:
    engine = NetworkEngine(moving_network())
    together = list(animate_clips(engine, iter(requests()), hop, lookahead, batch))
    assert len(together) == 4
    for frames, (audio, identity, emotion) in zip(together, requests(), strict=True):
        alone = Animator(engine).animate(
            audio, 16_000, identity=identity, emotion=emotion, hop=hop, lookahead=lookahead
        )
        np.testing.assert_allclose(frames, alone, atol=1e-4)
    rest = NEUTRAL * 0.5 + 1
    plain = Animator(engine).animate(requests()[1][0], 16_000, identity=rest, hop=hop,
                                     lookahead=lookahead)  # fmt: skip
    assert np.abs(together[1] - rest).max() > 0.1  # it moves,
    assert np.abs(together[1] - plain).max() > 0.01  # and otherwise where it is happy


def test_steps_are_full_but_the_last_and_clips_are_read_as_they_are_needed() -> None:
    engine, read = Counted(), list[int]()

    def counted() -> Any:
        for k, request in enumerate(requests()):
            read.append(k)
            yield request

    frames = animate_clips(engine, counted(), 3, 3, batch=8)
    next(frames)
    assert read == [0, 1]
    assert len(list(frames)) == 3
    assert set(engine.steps[:-1]) == {8} and sum(engine.steps) == 4 + 17 + 1 + 11


def test_no_clips_have_no_frames() -> None:
    assert list(animate_clips(SyntheticEngine(), [], 3, 3)) == []
