"""The inference threads, one for each lane of the engine, each with one batch at a time."""

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
from server.engine.capacity import MAX_STEP_S, Capacity
from server.logs import event
from server.metrics import Metrics
from server.session.windows import Job

log = logging.getLogger("kfusion.engine")

Output = NDArray[Any] | Exception | None
"""(30, 68, 2), what went wrong, or None: not run, for it is too late or not needed any more."""
Done = Callable[[Job, Output], None]
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes whose steps are timed; on CUDA each is compiled then."""
TIMED_STEPS: Final = 5  # of each size
NICENESS: Final = 4
DELIVERED: Final = 8  # outputs in one callback of the event loop


@dataclass(frozen=True)
class _Request:
    job: Job
    done: Done
    submitted: float
    is_needed: Callable[[Job], bool]


class InferencePool:
    """Runs jobs in batches, as many at once as the engine has lanes; delivers on the event loop.

    The outputs of a session's jobs may come in another request than the jobs were submitted in.
    """

    def __init__(self, engine: Engine, max_batch: int, metrics: Metrics) -> None:
        self.engine, self.max_batch, self.metrics = engine, max_batch, metrics
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
        self.capacity = measure_capacity(self.engine, self.max_batch)
        self.batcher: Batcher[_Request] = Batcher(self.capacity.max_batch)
        event(
            log, "engine ready", engine=self.engine.name, lanes=self.engine.lanes,
            max_batch=self.capacity.max_batch, windows_per_s=round(self.capacity.windows_per_s),
        )  # fmt: skip
        for thread in self.threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self.threads)

    def submit(
        self, job: Job, done: Done, is_needed: Callable[[Job], bool] = lambda _: True
    ) -> None:
        """Queues a job; ``done`` is called on the loop with its output. A job that is not
        ``is_needed`` any more when its turn comes, which an inference thread asks, is not run.
        """
        with self.wake:
            self.batcher.add(_Request(job, done, time.monotonic(), is_needed), job.deadline)
            self.wake.notify()

    def stop(self) -> None:
        with self.wake:
            self.stopping = True
            self.wake.notify_all()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(timeout=5)

    def _run(self) -> None:
        _lower_priority()
        while True:
            with self.wake:
                self.idle += 1
                while not self.stopping and not len(self.batcher):
                    self.wake.wait()
                if self.stopping:
                    return
                self.batcher.max_batch = self.capacity.max_batch
                requests, skipped = self.batcher.take(self.loop.time(), self.idle)
                self.idle -= 1
                busy = self.idle == 0
            needed = [(r, r.is_needed(r.job)) for r in requests]  # asked once: it may change
            requests = [request for request, is_needed in needed if is_needed]
            skipped += [request for request, is_needed in needed if not is_needed]
            if skipped:
                self._post(skipped, [None for _ in skipped])
            if requests:
                self._step(requests, busy)

    def _step(self, requests: list[_Request], busy: bool) -> None:
        began = time.monotonic()
        outputs: list[Output]
        try:
            outputs = list(_run(self.engine, requests))
        except Exception:
            log.exception("a batch of %d windows failed; each is run alone", len(requests))
            outputs = [_run_alone(self.engine, request) for request in requests]
        seconds = time.monotonic() - began
        self.metrics.step.observe(seconds)
        self.metrics.batch.observe(len(requests))
        self.metrics.queue.observe(began - min(request.submitted for request in requests))
        with self.wake:
            self.capacity.observe(len(requests), seconds, busy=busy)
        self._post(requests, outputs)

    def _post(self, requests: list[_Request], outputs: list[Output]) -> None:
        try:
            self.loop.call_soon_threadsafe(self._deliver, requests, outputs, time.monotonic())
        except RuntimeError:  # the loop is closed: the server has ended
            log.debug("outputs of %d windows came after the end", len(requests))

    def _deliver(self, requests: list[_Request], outputs: list[Output], at: float) -> None:
        """Delivers a few at a time, so that other callbacks run in between."""
        for request, output in zip(requests[:DELIVERED], outputs[:DELIVERED], strict=True):
            request.done(request.job, output)
        self.metrics.deliver.observe(time.monotonic() - at)
        if requests[DELIVERED:]:
            self.loop.call_soon(self._deliver, requests[DELIVERED:], outputs[DELIVERED:], at)


def _lower_priority() -> None:
    """Gives the event loop priority over this thread where cores are few: late reads delay every
    later frame, a late window is only dropped.
    """
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICENESS)


def _run(engine: Engine, requests: list[_Request]) -> NDArray[np.float32]:
    return engine.step(
        np.stack([r.job.window.audio for r in requests]),
        np.stack([r.job.rendering.identity.canonical for r in requests]),
        np.stack([r.job.emotion for r in requests]),
    )


def _run_alone(engine: Engine, request: _Request) -> Output:
    """One row by itself, so that a row that cannot be run fails alone."""
    try:
        return _run(engine, [request])[0]
    except Exception as error:
        return error


def measure_capacity(engine: Engine, max_batch: int) -> Capacity:
    """Step times with all lanes busy, by size, until a step takes longer than it may."""
    seconds: dict[int, float] = {}
    with ThreadPoolExecutor(engine.lanes) as threads:
        for size in (size for size in SIZES if size <= max_batch):
            timed = [threads.submit(_timed, engine, size) for _ in range(engine.lanes)]
            # The quickest: other load of the machine is not the engine's.
            seconds[size] = min(t for lane in timed for t in lane.result())
            if seconds[size] > MAX_STEP_S:
                break
    return Capacity(engine.lanes, seconds)


def _timed(engine: Engine, size: int) -> list[float]:
    silence = np.zeros((size, WINDOW), np.float32)
    faces = np.zeros((size, 68, 2), np.float32)
    neutral = np.zeros((size, len(EMOTIONS)), np.float32)
    engine.step(silence, faces, neutral)
    times: list[float] = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        engine.step(silence, faces, neutral)
        times.append(time.perf_counter() - began)
    return times
