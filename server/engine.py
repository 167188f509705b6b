"""The one thread that owns the model."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfusion.config import WINDOW
from kfusion.emotion import EMOTIONS
from kfusion.runtime import Engine
from server.batcher import Batcher
from server.metrics import Metrics
from server.session import Job

log = logging.getLogger("kfusion.engine")

Done = Callable[[Job, NDArray[Any] | Exception], None]


@dataclass(frozen=True)
class _Order:
    job: Job
    done: Done
    since: float


class EngineThread:
    """Runs jobs in batches; answers on the event loop, in the order of each batch."""

    def __init__(self, engine: Engine, max_batch: int, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self.batcher: Batcher[_Order] = Batcher(max_batch)
        self.wake = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Warms the model up, then takes jobs."""
        self.loop = loop
        for rows in (1, 2, self.batcher.max_batch):
            self.engine.step(
                np.zeros((rows, WINDOW), np.float32),
                np.zeros((rows, 68, 2), np.float32),
                np.zeros((rows, len(EMOTIONS)), np.float32),
            )
        self.thread.start()

    @property
    def alive(self) -> bool:
        return self.thread.is_alive()

    def submit(self, job: Job, done: Done) -> None:
        """Queues a job; ``done`` is called on the loop with (30, 68, 2) or what went wrong."""
        with self.wake:
            self.batcher.add(_Order(job, done, time.monotonic()), job.deadline)
            self.wake.notify()

    def stop(self) -> None:
        with self.wake:
            self.stopping = True
            self.wake.notify()
        self.thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self.wake:
                while not self.stopping and not len(self.batcher):
                    self.wake.wait()
                if self.stopping:
                    return
                orders = self.batcher.take()
            self._step(orders)

    def _step(self, orders: list[_Order]) -> None:
        began = time.monotonic()
        results: list[NDArray[Any] | Exception]
        try:
            said = self.engine.step(
                np.stack([o.job.window.audio for o in orders]),
                np.stack([o.job.identity.canonical for o in orders]),
                np.stack([o.job.emotion for o in orders]),
            )
            results = list(said)
        except Exception as error:
            log.exception("a batch of %d windows failed", len(orders))
            results = [error] * len(orders)
        self.metrics.step.observe(time.monotonic() - began)
        self.metrics.batch.observe(len(orders))
        for order in orders:
            self.metrics.queue.observe(began - order.since)
        self.loop.call_soon_threadsafe(_deliver, orders, results)


def _deliver(orders: list[_Order], results: list[NDArray[Any] | Exception]) -> None:
    for order, result in zip(orders, results, strict=True):
        order.done(order.job, result)
