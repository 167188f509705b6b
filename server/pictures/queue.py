"""Finds faces in clients' pictures: a queue, a worker process, and a cache of its results.

The process (worker.py) is started for the first picture, ended when none came for a while, and
killed where it takes too long; the next picture gets another one.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec

from kfusion.errors import BadIdentity, BadMessage, NoFace, TooBig, TooFast, WireError
from kfusion.landmarks import Identity
from server.config import FACE_ALIGNMENT
from server.logs import event
from server.metrics import Metrics
from server.pictures.request import FoundFace, SearchResult
from server.pictures.worker import LENGTH, UNABLE, Found, Loading, Refused, decode_message

log = logging.getLogger("kfusion.pictures")

REQUIRED_PACKAGES: Final = ("PIL", "torch", "face_alignment")
MAX_WAITING: Final = 32  # pictures of all sessions
MAX_CACHED: Final = 256  # results, by the pictures' sha256
PICTURE_S: Final = 30.0  # for a picture
LOAD_S: Final = 120.0  # to load the networks, which may be downloaded first
IDLE_S: Final = 300.0  # without a picture, after which the process is ended
RETRY_S: Final = 30.0  # after networks could not be loaded
END_S: Final = 5.0
MAX_MESSAGE: Final = 1 << 16  # bytes
_ERRORS: Final[dict[str, type[WireError]]] = {
    kind.code: kind for kind in (NoFace, TooBig, BadIdentity, BadMessage)
}


def face_alignment_installed() -> bool:
    """Whether the packages of the extra ``face`` are installed; none of them is imported."""
    return all(importlib.util.find_spec(name) is not None for name in REQUIRED_PACKAGES)


class FaceFinderQueue:
    """For a running event loop. ``finder``: that of the process (worker.py); ``picture_s`` and
    ``load_s``: how long it may take.
    """

    def __init__(
        self,
        metrics: Metrics,
        finder: str = FACE_ALIGNMENT,
        *,
        picture_s: float = PICTURE_S,
        load_s: float = LOAD_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self.metrics, self.finder = metrics, finder
        self.picture_s, self.load_s, self.idle_s = picture_s, load_s, idle_s
        self.loop = asyncio.get_running_loop()
        self.waiting: dict[asyncio.Future[SearchResult], tuple[bytes, bytes]] = {}
        """Pictures and their hashes by their results, in order."""
        self.cache: OrderedDict[bytes, SearchResult] = OrderedDict()
        self.unable: tuple[float, SearchResult] | None = None  # until then, with this result
        self.process: Process | None = None
        self.processes_started = 0
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def submit(self, picture: bytes) -> asyncio.Future[SearchResult]:
        """Queues a picture; gives its result, which may be cancelled."""
        key, result = hashlib.sha256(picture).digest(), self.loop.create_future()
        if len(self.waiting) >= MAX_WAITING:
            result.set_result(
                TooFast(
                    f"identity.image: {MAX_WAITING} pictures of others are waiting; wanted a "
                    "little time before it is sent again"
                )
            )
        elif (cached := self._cached(key)) is not None:
            result.set_result(cached)
        else:
            self.waiting[result] = picture, key
            result.add_done_callback(lambda _: self.waiting.pop(result, None))
            self.wake.set()
            if self.task is None:
                self.task = asyncio.create_task(self._run())
        return result

    async def close(self) -> None:
        """Ends the process; the pictures in the queue get no result."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self._end_process()

    def _cached(self, key: bytes) -> SearchResult | None:
        if key in self.cache:
            self.cache.move_to_end(key)
            return self.cache[key]
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
                    await self._end_process()
            result = next(iter(self.waiting))
            picture, key = self.waiting.pop(result)
            if result.cancelled():
                continue
            face = self._cached(key)  # an earlier one may have been the same picture
            if face is None:
                try:
                    face = await self._search(picture, key)
                except Exception as error:
                    log.exception("a picture failed")
                    face = NoFace(f"identity.image: no face was found ({type(error).__name__})")
            if not result.cancelled():
                result.set_result(face)

    async def _search(self, picture: bytes, key: bytes) -> SearchResult:
        began = time.monotonic()
        reply = await self._ask_worker(picture)
        outcome = "found" if isinstance(reply, Found) else reply.code
        seconds = time.monotonic() - began
        self.metrics.pictures.labels(outcome).inc()
        self.metrics.picture_seconds.observe(seconds)
        event(log, "picture", outcome=outcome, bytes=len(picture), seconds=round(seconds, 3))
        if isinstance(reply, Found):
            result: SearchResult = FoundFace(
                Identity.from_points(reply.points), reply.note, reply.seen
            )
        elif reply.code == UNABLE:
            log.warning("no faces are found: %s", reply.message)
            why = reply.message.partition(" (")[0]  # paths and the like are for the log
            result = BadMessage(
                f"identity.image: this server cannot find faces now: {why}; its log says more; "
                "wanted points"
            )
            self.unable = (self.loop.time() + RETRY_S, result)
            await self._end_process()
        else:
            result = _ERRORS.get(reply.code, NoFace)(f"identity.image: {reply.message}")
        if isinstance(reply, Found) or reply.final:
            self.cache[key] = result
            if len(self.cache) > MAX_CACHED:
                self.cache.popitem(last=False)
        return result

    async def _ask_worker(self, picture: bytes) -> Found | Refused:
        """The process's reply; a process that does not reply in time, or ends, is replaced."""
        try:
            async with asyncio.timeout(self.picture_s) as limit:
                if self.process is None or self.process.returncode is not None:
                    limit.reschedule(self.loop.time() + self.load_s)
                    await self._end_process()
                    self.process = await self._start_process()
                    limit.reschedule(self.loop.time() + self.picture_s)
                return await self._exchange(self.process, picture, limit)
        except TimeoutError:
            why = "it took too long"
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            why = "what looks at pictures ended over it"
        except (OSError, NotImplementedError) as error:
            return Refused(UNABLE, f"no process can be started: {error}", final=False)
        await self._end_process()
        return Refused(
            NoFace.code, f"no face was found, {why}; wanted another picture", final=False
        )

    async def _exchange(
        self, process: Process, picture: bytes, limit: asyncio.Timeout
    ) -> Found | Refused:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(LENGTH.pack(len(picture)) + picture)
        await process.stdin.drain()
        while True:
            (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            if size > MAX_MESSAGE:
                raise msgspec.DecodeError(f"a message of {size} bytes")
            message = decode_message(await process.stdout.readexactly(size))
            if not isinstance(message, Loading):
                return message
            limit.reschedule(self.loop.time() + self.load_s)

    async def _start_process(self) -> Process:
        self.processes_started += 1
        environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.pictures.worker", self.finder,
            stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True,  # no Ctrl-C
        )  # fmt: skip

    async def _end_process(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(END_S):
                await process.communicate()
