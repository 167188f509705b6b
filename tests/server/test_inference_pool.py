"""The threads that run the model, with engines made for the purpose."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.config import WINDOW
from kfusion.emotion import vector
from kfusion.landmarks import NEUTRAL_IDENTITY
from kfusion.stream import Window
from server.engine.batcher import FILE, MAX_LATE_S
from server.engine.inference_pool import InferencePool, Output, measure_capacity
from server.metrics import Metrics
from server.session.rendering import Rendering
from server.session.windows import Job


class Slow:
    """Says of each row its first sample; waits for ``go``, and cannot run a row of sevens."""

    name, sha256 = "slow", ""

    def __init__(self, lanes: int = 1) -> None:
        self.lanes = lanes
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.batches: list[list[float]] = []

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.batches.append(audio[:, 0].tolist())
        self.entered.set()
        assert self.go.wait(10)
        with self.lock:
            self.running -= 1
        if (audio[:, 0] == 7).any():
            raise ValueError("a row of sevens")
        return np.broadcast_to(audio[:, :1, None, None], (len(audio), 30, 68, 2)).astype("f4")


def job(value: float, deadline: float = FILE) -> Job:
    window = Window(6, 0, 3, np.full(WINDOW, value, np.float32))
    return Job(window, Rendering(NEUTRAL_IDENTITY), None, vector({}), deadline, 0)


class Running:
    """A pool on this loop, and its outputs by the windows' values."""

    def __init__(self, engine: Slow) -> None:
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.pool = InferencePool(engine, 8, self.metrics)
        self.outputs: dict[float, Output] = {}
        self.came = asyncio.Event()

    def submit(self, value: float, deadline: float = FILE) -> None:
        self.pool.submit(job(value, deadline), self._done)

    def _done(self, job: Job, output: Output) -> None:
        self.outputs[float(job.window.audio[0])] = output
        self.came.set()

    async def run(self, value: float) -> None:
        """Submits a window and waits until a lane has taken it."""
        engine = self.pool.engine
        assert isinstance(engine, Slow)
        engine.entered.clear()
        self.submit(value)
        assert await asyncio.to_thread(engine.entered.wait, 10)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.outputs) < count:
                self.came.clear()
                await self.came.wait()

    async def __aenter__(self) -> Running:
        await self.loop.run_in_executor(None, self.pool.start, self.loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.loop.run_in_executor(None, self.pool.stop)


@pytest.mark.asyncio
async def test_a_row_that_cannot_be_run_fails_alone() -> None:
    engine = Slow()
    async with Running(engine) as running:
        engine.go.clear()
        await running.run(1)
        for value in (2, 7, 3):
            running.submit(value)
        engine.go.set()
        await running.until(4)
        assert isinstance(running.outputs[7], ValueError)
        for value in (1, 2, 3):
            output = running.outputs[value]
            assert isinstance(output, np.ndarray) and float(output[0, 0, 0]) == value
    assert engine.batches[-4:] == [[2, 7, 3], [2], [7], [3]]


@pytest.mark.asyncio
async def test_lanes_run_at_once_and_what_waits_gathers() -> None:
    engine = Slow(lanes=2)
    async with Running(engine) as running:
        engine.go.clear()
        await running.run(1)
        await running.run(2)
        for value in (3, 4, 5, 6):
            running.submit(value)
        engine.go.set()
        await running.until(6)
    assert engine.most == 2
    gathered = engine.batches[engine.batches.index([2]) + 1 :]
    assert len(gathered) <= 2 and sorted(v for batch in gathered for v in batch) == [3, 4, 5, 6]


@pytest.mark.asyncio
async def test_what_is_too_late_is_given_up_and_the_rest_is_run() -> None:
    engine = Slow()
    async with Running(engine) as running:
        engine.go.clear()
        await running.run(1)
        now = running.loop.time()
        running.submit(2, now - MAX_LATE_S - 1)
        running.submit(3, now + 60)
        engine.go.set()
        await running.until(3)
        assert running.outputs[2] is None and isinstance(running.outputs[3], np.ndarray)
        assert running.pool.alive
    assert not running.pool.alive


def test_the_warm_up_times_batches_until_they_take_too_long() -> None:
    capacity = measure_capacity(Slow(lanes=2), 4)
    assert list(capacity.seconds) == [1, 2, 4] and capacity.max_batch == 4 and capacity.lanes == 2
