"""The lanes that run the model: threads, each with one batch at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import WINDOW
from kfusion.emotion import EMOTIONS
from kfusion.runtime import Engine
from server.engine.batcher import Batcher
from server.engine.capacity import STEP_S, Capacity
from server.logs import event
from server.metrics import Metrics
from server.session.windows import Job

log = logging.getLogger("kfusion.engine")

Answer = NDArray[Any] | Exception | None
"""(30, 68, 2), what went wrong, or None: given up, for it would have come too late."""
Done = Callable[[Job, Answer], None]
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batches whose steps are timed; on CUDA each is compiled then."""
TIMES: Final = 5
NICE: Final = 4
SLICE: Final = 8  # answers that are delivered at once


@dataclass(frozen=True)
class _Order:
    job: Job
    done: Done
    since: float
    wanted: Callable[[Job], bool]


class Lanes:
    """Runs jobs in batches, as many at once as the engine has lanes; answers on the event loop.

    The jobs of a session may be answered in another order than they were submitted in.
    """

    def __init__(self, engine: Engine, max_batch: int, metrics: Metrics) -> None:
        self.engine, self.most, self.metrics = engine, max_batch, metrics
        self.wake = threading.Condition()
        self.stopping = False
        self.idle = 0
        self.threads = [
            threading.Thread(target=self._run, name=f"inference-{k}", daemon=True)
            for k in range(engine.lanes)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Warms the model up, measures it, then takes jobs."""
        self.loop = loop
        self.capacity = measured(self.engine, self.most)
        self.batcher: Batcher[_Order] = Batcher(self.capacity.max_batch)
        event(
            log, "engine ready", engine=self.engine.name, lanes=self.engine.lanes,
            max_batch=self.capacity.max_batch, windows_per_s=round(self.capacity.windows_per_s),
        )  # fmt: skip
        for thread in self.threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self.threads)

    def submit(self, job: Job, done: Done, wanted: Callable[[Job], bool] = lambda _: True) -> None:
        """Queues a job; ``done`` is called on the loop with what came of it. One that is not
        ``wanted`` any more when its turn comes, as any thread may ask, is not run.
        """
        with self.wake:
            self.batcher.add(_Order(job, done, time.monotonic(), wanted), job.deadline)
            self.wake.notify()

    def stop(self) -> None:
        with self.wake:
            self.stopping = True
            self.wake.notify_all()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(timeout=5)

    def _run(self) -> None:
        _after_the_loop()
        while True:
            with self.wake:
                self.idle += 1
                while not self.stopping and not len(self.batcher):
                    self.wake.wait()
                if self.stopping:
                    return
                self.batcher.max_batch = self.capacity.max_batch
                orders, late = self.batcher.take(self.loop.time(), self.idle)
                self.idle -= 1
                busy = self.idle == 0
            asked = [(order, order.wanted(order.job)) for order in orders]  # it may change
            orders = [order for order, wanted in asked if wanted]
            late += [order for order, wanted in asked if not wanted]
            if late:
                self._answer(late, [None for _ in late])
            if orders:
                self._step(orders, busy)

    def _step(self, orders: list[_Order], busy: bool) -> None:
        began = time.monotonic()
        answers: list[Answer]
        try:
            answers = list(_said(self.engine, orders))
        except Exception:
            log.exception("a batch of %d windows failed; each is run alone", len(orders))
            answers = [_alone(self.engine, order) for order in orders]
        seconds = time.monotonic() - began
        self.metrics.step.observe(seconds)
        self.metrics.batch.observe(len(orders))
        self.metrics.queue.observe(began - min(order.since for order in orders))
        with self.wake:
            self.capacity.observe(len(orders), seconds, busy=busy)
        self._answer(orders, answers)

    def _answer(self, orders: list[_Order], answers: list[Answer]) -> None:
        try:
            self.loop.call_soon_threadsafe(self._deliver, orders, answers, time.monotonic())
        except RuntimeError:  # the loop is closed: nobody waits for it
            log.debug("answers to %d windows came after the end", len(orders))

    def _deliver(self, orders: list[_Order], answers: list[Answer], at: float) -> None:
        """A few at a time: what else the loop has to do comes in between."""
        for order, answer in zip(orders[:SLICE], answers[:SLICE], strict=True):
            order.done(order.job, answer)
        self.metrics.deliver.observe(time.monotonic() - at)
        if orders[SLICE:]:
            self.loop.call_soon(self._deliver, orders[SLICE:], answers[SLICE:], at)


def _after_the_loop() -> None:
    """Lets the event loop go before this thread where cores are few: what it does not read in time
    is late for ever, what a lane does not run in time is given up and the next is on time.
    """
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICE)


def _said(engine: Engine, orders: list[_Order]) -> NDArray[np.float32]:
    return engine.step(
        np.stack([o.job.window.audio for o in orders]),
        np.stack([o.job.rendering.identity.canonical for o in orders]),
        np.stack([o.job.emotion for o in orders]),
    )


def _alone(engine: Engine, order: _Order) -> Answer:
    """One row by itself, so that a row that cannot be run fails alone."""
    try:
        return _said(engine, [order])[0]
    except Exception as error:
        return error


def measured(engine: Engine, max_batch: int) -> Capacity:
    """Step times with all lanes busy, by size, until a step takes longer than it may."""
    seconds: dict[int, float] = {}
    with ThreadPoolExecutor(engine.lanes) as lanes:
        for size in (size for size in SIZES if size <= max_batch):
            timed = [lanes.submit(_timed, engine, size) for _ in range(engine.lanes)]
            # The quickest: what else the machine had to do is not the engine's fault.
            seconds[size] = min(t for lane in timed for t in lane.result())
            if seconds[size] > STEP_S:
                break
    return Capacity(engine.lanes, seconds)


def _timed(engine: Engine, size: int) -> list[float]:
    silence = np.zeros((size, WINDOW), np.float32)
    faces = np.zeros((size, 68, 2), np.float32)
    neutral = np.zeros((size, len(EMOTIONS)), np.float32)
    engine.step(silence, faces, neutral)
    times: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        engine.step(silence, faces, neutral)
        times.append(time.perf_counter() - began)
    return times
