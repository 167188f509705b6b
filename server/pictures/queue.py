"""Faces in clients' pictures: a queue, a process that looks, and what it has said before.

The process (looker.py) is started for the first picture, ended when none came for a while, and
killed where it takes too long; the next picture gets another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from kfusion.errors import BadIdentity, BadMessage, NoFace, TooBig, TooFast, WireError
from kfusion.landmarks import Identity
from server.config import USUAL
from server.logs import event
from server.metrics import Metrics
from server.pictures.request import Answer, FoundFace
from server.pictures.worker import LENGTH, UNABLE, Found, Loading, Refused, read_said

log = logging.getLogger("kfusion.pictures")

NEEDS: Final = ("PIL", "torch", "face_alignment")
WAITING: Final = 32  # pictures of all sessions
KEPT: Final = 256  # answers, by the pictures' sha256
LOOK_S: Final = 30.0  # for a picture
LOAD_S: Final = 120.0  # and for the networks, which may have to be fetched
IDLE_S: Final = 300.0  # after which the process and its memory are given back
RETRY_S: Final = 30.0  # after networks could not be loaded
END_S: Final = 5.0
MOST_SAID: Final = 1 << 16  # bytes of an answer
_ERRORS: Final[dict[str, type[WireError]]] = {
    kind.code: kind for kind in (NoFace, TooBig, BadIdentity, BadMessage)
}


def can_look() -> bool:
    """Whether the packages of the extra ``face`` are installed; none of them is imported."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDS)


@dataclass(eq=False)
class Ticket:
    """A picture that waits. ``done``: None once nobody wants to know."""

    picture: bytes
    key: bytes
    done: Callable[[Answer], None] | None


class Pictures:
    """For a running event loop. ``finder``: what the process looks with (looker.py);
    ``look_s`` and ``load_s``: how long it may take.
    """

    def __init__(
        self,
        metrics: Metrics,
        finder: str = USUAL,
        *,
        look_s: float = LOOK_S,
        load_s: float = LOAD_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self.metrics, self.finder = metrics, finder
        self.look_s, self.load_s, self.idle_s = look_s, load_s, idle_s
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[Ticket] = deque()
        self.known: OrderedDict[bytes, Answer] = OrderedDict()
        self.unable: tuple[float, Answer] | None = None  # until then, and why
        self.process: Process | None = None
        self.started = 0  # processes
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def submit(self, picture: bytes, done: Callable[[Answer], None]) -> Ticket:
        """Has a picture looked at; ``done`` is called on the loop, later, with what came of it.

        Raises :class:`~kfusion.errors.TooFast` while too many wait.
        """
        if len(self.waiting) >= WAITING:
            raise TooFast(
                f"identity.image: {WAITING} pictures of others are waiting; wanted a little time "
                "before it is sent again"
            )
        ticket = Ticket(picture, hashlib.sha256(picture).digest(), done)
        answer = self._answered(ticket.key)
        if answer is not None:
            self.loop.call_soon(_tell, ticket, answer)
            return ticket
        self.waiting.append(ticket)
        self.wake.set()
        if self.task is None:
            self.task = asyncio.create_task(self._run())
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        ticket.done = None
        with contextlib.suppress(ValueError):
            self.waiting.remove(ticket)

    async def close(self) -> None:
        """Ends the process; what waits is not answered."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self._end()

    def _answered(self, key: bytes) -> Answer | None:
        if key in self.known:
            self.known.move_to_end(key)
            return self.known[key]
        if self.unable is not None and self.loop.time() < self.unable[0]:
            return self.unable[1]
        return None

    async def _run(self) -> None:
        while True:
            while not self.waiting:
                self.wake.clear()
                try:
                    async with asyncio.timeout(None if self.process is None else self.idle_s):
                        await self.wake.wait()
                except TimeoutError:
                    await self._end()
            ticket = self.waiting.popleft()
            answer = self._answered(ticket.key)  # somebody else's may have been the same
            if answer is None:
                try:
                    answer = await self._answer(ticket)
                except Exception as error:
                    log.exception("a picture failed")
                    answer = NoFace(f"identity.image: no face was found ({type(error).__name__})")
            _tell(ticket, answer)

    async def _answer(self, ticket: Ticket) -> Answer:
        began = time.monotonic()
        said = await self._look(ticket.picture)
        outcome = "found" if isinstance(said, Found) else said.code
        seconds = time.monotonic() - began
        self.metrics.pictures.labels(outcome).inc()
        self.metrics.look.observe(seconds)
        event(log, "picture", outcome=outcome, bytes=len(ticket.picture), seconds=round(seconds, 3))
        if isinstance(said, Found):
            answer: Answer = FoundFace(Identity.from_points(said.points), said.note, said.seen)
        elif said.code == UNABLE:
            log.warning("no faces are found: %s", said.message)
            why = said.message.partition(" (")[0]  # paths and the like are for the log
            answer = BadMessage(
                f"identity.image: this server cannot find faces now: {why}; its log says more; "
                "wanted points"
            )
            self.unable = (self.loop.time() + RETRY_S, answer)
            await self._end()
        else:
            answer = _ERRORS.get(said.code, NoFace)(f"identity.image: {said.message}")
        if isinstance(said, Found) or said.final:
            self.known[ticket.key] = answer
            if len(self.known) > KEPT:
                self.known.popitem(last=False)
        return answer

    async def _look(self, picture: bytes) -> Found | Refused:
        """Has the process look at it; one that does not answer in time, or ends, is replaced."""
        try:
            async with asyncio.timeout(self.look_s) as limit:
                if self.process is None or self.process.returncode is not None:
                    limit.reschedule(self.loop.time() + self.load_s)
                    await self._end()
                    self.process = await self._started()
                    limit.reschedule(self.loop.time() + self.look_s)
                return await self._asked(self.process, picture, limit)
        except TimeoutError:
            why = "it took too long"
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            why = "what looks at pictures ended over it"
        except (OSError, NotImplementedError) as error:
            return Refused(UNABLE, f"no process can be started: {error}", final=False)
        await self._end()
        return Refused(
            NoFace.code, f"no face was found, {why}; wanted another picture", final=False
        )

    async def _asked(
        self, process: Process, picture: bytes, limit: asyncio.Timeout
    ) -> Found | Refused:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(LENGTH.pack(len(picture)) + picture)
        await process.stdin.drain()
        while True:
            (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            if size > MOST_SAID:
                raise msgspec.DecodeError(f"an answer of {size} bytes")
            said = read_said(await process.stdout.readexactly(size))
            if not isinstance(said, Loading):
                return said
            limit.reschedule(self.loop.time() + self.load_s)

    async def _started(self) -> Process:
        self.started += 1
        environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.pictures.worker", self.finder,
            stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True,  # out of Ctrl-C's way
        )  # fmt: skip

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(END_S):
                await process.communicate()


def _tell(ticket: Ticket, answer: Answer) -> None:
    if ticket.done is not None:
        ticket.done(answer)
