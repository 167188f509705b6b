"""A session with an engine that answers at once, and its client."""

import json
from typing import Any

import numpy as np

from kfusion import wire
from kfusion.runtime import SyntheticEngine
from server.session.session import Session
from server.session.windows import Job, WindowScheduler
from tests.conftest import decoded

ENGINE = SyntheticEngine()
MODEL = wire.Model("test", "")


def pcm(samples: np.ndarray[Any, Any]) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def engine_output(job: Job) -> np.ndarray[Any, Any]:
    face = job.rendering.identity.canonical
    return ENGINE.step(job.window.audio[None], face[None], job.emotion[None])[0]


class DrivenSession:
    """``received`` is what the client has got, while it is ``reading``."""

    def __init__(
        self, limits: wire.Limits | None = None, *, started: bool = True, **start: Any
    ) -> None:
        self.now = 100.0
        self.session = Session(MODEL, limits or wire.Limits(), self.now, has_webrtc=True)
        self.received: list[Any] = []
        self.reading = True
        if started:
            self.send(type="start", **{"encoding": "binary", **start})

    @property
    def windows(self) -> WindowScheduler:
        assert self.session.stream is not None
        return self.session.stream.windows

    # The client

    def send(self, **message: Any) -> None:
        self.give(json.dumps(message))

    def audio(self, samples: np.ndarray[Any, Any]) -> None:
        self.give(pcm(samples))

    def give(self, message: str | bytes) -> None:
        self.session.receive(message, self.now)
        self.work()

    def lose(self) -> None:
        self.session.disconnected(1006, self.now)

    def request_resume(self, n: int) -> None:
        self.session.resumed(wire.ResumeFrom(self.session.token, n), self.now)

    def resume(self, n: int) -> wire.Ready:
        """Goes on from frame ``n``; forgets the frames from there on."""
        self.request_resume(n)
        blocks = [m for m in self.received if isinstance(m, wire.FrameBlock)]
        self.received = [
            wire.FrameBlock(b.output, b.first, b.clock_us, b.values[: n - b.first])
            for b in blocks
            if b.first < n
        ]
        self.work()
        (ready,) = self.of(wire.Ready)
        return ready

    # The shell

    def work(self) -> None:
        while True:
            jobs = self.take_jobs()
            for job in jobs:
                self.session.complete(job, engine_output(job), self.now)
            count = self.read() if self.reading else 0
            if not jobs and not count:
                return

    def take_jobs(self) -> list[Job]:
        jobs: list[Job] = []
        while (job := self.session.take_window(self.now)) is not None:
            jobs.append(job)
        return jobs

    def read(self) -> int:
        before = len(self.received)
        while (message := self.session.next_message(self.now)) is not None:
            self.received.append(decoded(message))
        return len(self.received) - before

    def wait(self, seconds: float) -> None:
        """Lets time pass, waking the session when it asks to be woken."""
        until = self.now + seconds
        while (at := max(self.session.wake_at(), self.now + 1e-4)) <= until:
            self.now = at
            self.session.tick(self.now)
            self.work()
        self.now = until
        self.session.tick(self.now)
        self.work()

    # What came

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.received if isinstance(m, kind)]

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.of(wire.Error)]

    @property
    def frames(self) -> list[int]:
        blocks = self.of(wire.FrameBlock)
        return [n for b in blocks for n in range(b.first, b.first + len(b.values))]

    @property
    def points(self) -> np.ndarray[Any, Any]:
        return np.concatenate([b.values for b in self.of(wire.FrameBlock)]).reshape(-1, 68, 2)

    @property
    def close_code(self) -> int | None:
        return self.session.closing and self.session.closing.code
