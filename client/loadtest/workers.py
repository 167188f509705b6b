"""Runs a load: its streams in this process or in several, and the server's figures beside them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from client.loadtest.log import Log, Measured
from client.loadtest.plan import Load, Part, Sound, parts_of
from client.loadtest.streams import Door, Stream
from client.loadtest.usage import ServerUse, watch
from client.loadtest.wheel import Wheel, messages_of, open_stream
from kfusion.errors import ConnectionFailed, KFusionError
from kfusion.system import interrupts_blocked, raise_open_files_limit

OPENING: Final = 16  # connections opened at once
LEAD_S: Final = 0.3  # from all being ready to the first sample
GRACE_S: Final = 10.0  # for the last frames and the server's end
READ_S: Final = 5.0  # for the last of the server's own figures

Pipe = Any  # multiprocessing's Connection, which has another class on Windows

Agree = Callable[[], Awaitable[float]]
"""Says that all is ready, and gives the instant of the first sample."""


async def drive(
    load: Load, parts: Sequence[Part], sounds: Sequence[Sound], agree: Agree
) -> tuple[list[Log], float]:
    """One process' streams to their ends, and the CPU seconds used while they spoke.

    Raises :class:`~kfusion.errors.ConnectionFailed`, or the server's error by its name, if a
    stream cannot be opened for another reason than that the server is full.
    """
    raise_open_files_limit(len(parts))
    door, wheel = Door.of(load), Wheel()
    messages = [messages_of(sound) for sound in sounds]
    turns = asyncio.Semaphore(OPENING)
    streams: list[Stream] = []

    async def one(part: Part) -> None:
        async with turns:
            streams.append(await open_stream(door, part, messages, sounds, load.rate))

    async def late(part: Part, start: float) -> None:
        """As one(), but at its own instant, and it speaks as soon as it can."""
        await asyncio.sleep(start + part.after - time.monotonic())
        stream = await open_stream(door, part, messages, sounds, load.rate)
        streams.append(stream)
        stream.begin(time.monotonic(), load.samples)
        wheel.add(stream)

    try:
        if load.ramp:
            await _all(one(part) for part in parts)
        gc.collect()
        gc.freeze()  # what lives through the run need not be looked at again and again
        start = await agree()
        cpu = [time.process_time()]
        loop = asyncio.get_running_loop()
        spoken = loop.call_at(start + load.seconds, lambda: cpu.append(time.process_time()))
        if load.ramp:
            for stream in streams:
                stream.begin(start + stream.part.after, load.samples)
                wheel.add(stream)
        else:
            await _all(late(part, start) for part in parts)
        await _ends(streams, start + load.seconds + load.hop / 30 + GRACE_S)
        spoken.cancel()
        cpu.append(time.process_time())  # counts if they were over sooner
        return [stream.log for stream in streams], cpu[1] - cpu[0]
    finally:
        gc.unfreeze()
        for stream in streams:
            stream.transport.abort()


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them, or the error of the first that fails."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as errors:
        for error in errors.exceptions:
            raise error from None


async def _ends(streams: Sequence[Stream], until: float) -> None:
    """Waits until every stream is closed; one that is not by then stays unfinished."""
    left = max(0.0, until - time.monotonic())
    open_ones = [stream.closed for stream in streams if not stream.closed.done()]
    if open_ones:
        await asyncio.wait(open_ones, timeout=left)
    for stream in streams:
        if not stream.closed.done():
            stream.give_up()


async def measure(load: Load, sounds: Sequence[Sound]) -> Measured:
    """One run from its opening to its end.

    Raises :class:`~kfusion.errors.KFusionError` if its streams could not be opened.
    """
    started: list[float] = []
    watching: list[asyncio.Task[ServerUse | None]] = []

    def begun() -> float:
        started.append(time.monotonic() + LEAD_S)
        watching.append(asyncio.create_task(watch(load, started[0])))
        return started[0]

    async def agree() -> float:
        return begun()

    parts = parts_of(load, sounds)
    try:
        if load.processes == 1:
            logs, cpu_s = await drive(load, parts, sounds, agree)
        else:
            logs, cpu_s = await _share(load, parts, sounds, begun)
        wall_s = time.monotonic() - started[0]
        use = None
        if wall_s >= load.seconds:  # else there is nobody left to be asked
            with contextlib.suppress(TimeoutError):
                use = await asyncio.wait_for(watching[0], READ_S)
    finally:
        for task in watching:
            task.cancel()
    logs.sort(key=lambda log: log.index)
    names = tuple(sound.name for sound in sounds)
    cpu = cpu_s / min(wall_s, load.seconds)
    return Measured(load, names, started[0], logs, cpu, use)


# Several processes


async def _share(
    load: Load, parts: Sequence[Part], sounds: Sequence[Sound], begun: Callable[[], float]
) -> tuple[list[Log], float]:
    """Every n-th stream in its own process; all begin at one instant of the one clock."""
    context = multiprocessing.get_context("spawn")
    count = min(load.processes, len(parts))
    pipes: list[Pipe] = []
    workers: list[Any] = []
    patience = 0.0  # with workers whose work is of no use any more
    try:
        for k in range(count):
            here, there = context.Pipe()
            worker = context.Process(
                target=_work, args=(there, load, parts[k::count], list(sounds)), daemon=True
            )
            with interrupts_blocked():
                worker.start()
            there.close()
            pipes.append(here)
            workers.append(worker)
        for pipe in pipes:
            await _told(pipe)
        start = begun()
        for pipe in pipes:
            pipe.send(start)
        logs: list[Log] = []
        cpu_s = 0.0
        for pipe in pipes:
            more, seconds = await _told(pipe)
            logs += more
            cpu_s += seconds
        patience = 5.0
        return logs, cpu_s
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join(patience)
            if worker.is_alive():
                worker.kill()
                worker.join()


async def _told(pipe: Pipe) -> Any:
    """What a worker says; raises what it raised."""
    while not pipe.poll():  # noqa: ASYNC110 (a pipe has no event on every system)
        await asyncio.sleep(0.05)
    try:
        said = pipe.recv()
    except EOFError:
        raise ConnectionFailed("a process of the loader ended without a word") from None
    if isinstance(said, KFusionError):
        raise said
    return said


def _work(pipe: Pipe, load: Load, parts: list[Part], sounds: list[Sound]) -> None:
    """A worker: says that it is ready, is told when to begin, says what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over

    async def agree() -> float:
        pipe.send("ready")
        while not pipe.poll():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return pipe.recv()

    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            pipe.send(asyncio.run(drive(load, parts, sounds, agree)))
        except KFusionError as error:
            pipe.send(error)
