"""Runs a load: its streams in this process or in several, and the server's usage meanwhile."""

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from client.loadtest.load import Load, LoadClip, StreamPlan, plan_streams
from client.loadtest.sender import ChunkSender, open_stream, websocket_messages
from client.loadtest.streams import Endpoint, LoadStream
from client.loadtest.trace import RunTrace, StreamTrace
from client.loadtest.usage import ServerUsage, watch
from kfusion.errors import ConnectionFailed, KFusionError
from kfusion.system import interrupts_blocked, raise_open_files_limit

MAX_OPENING: Final = 16  # connections opened at once
LEAD_S: Final = 0.3  # between the last ready message and the first sample
END_S: Final = 10.0  # for the last frames and the server's end
USAGE_S: Final = 5.0  # for the last reading of the server's usage

Pipe = Any  # multiprocessing's Connection, which has another class on Windows

Synchronise = Callable[[], Awaitable[float]]
"""Called when all streams are ready; returns the time of the first sample."""


async def run_streams(
    load: Load, plans: Sequence[StreamPlan], clips: Sequence[LoadClip], synchronise: Synchronise
) -> tuple[list[StreamTrace], float]:
    """Runs the streams of one process; their traces, and the CPU seconds used while they sent."""
    raise_open_files_limit(len(plans))
    endpoint, sender = Endpoint.of(load), ChunkSender()
    messages = [websocket_messages(clip) for clip in clips]
    opening = asyncio.Semaphore(MAX_OPENING)
    streams: list[LoadStream] = []

    async def open_one(plan: StreamPlan) -> None:
        async with opening:
            streams.append(await open_stream(endpoint, plan, messages, clips, load.rate))

    try:
        try:
            async with asyncio.TaskGroup() as group:
                for plan in plans:
                    group.create_task(open_one(plan))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        gc.collect()
        gc.freeze()  # so that collections during the run do not visit these objects
        start = await synchronise()
        cpu = [time.process_time()]
        loop = asyncio.get_running_loop()
        audio_end = loop.call_at(start + load.seconds, lambda: cpu.append(time.process_time()))
        for stream in streams:
            stream.begin(start + stream.plan.delay_s, load.samples)
            sender.add(stream)
        await _wait_for_ends(streams, start + load.seconds + load.hop / 30 + END_S)
        audio_end.cancel()
        cpu.append(time.process_time())  # is used if the streams ended earlier
        return [stream.trace for stream in streams], cpu[1] - cpu[0]
    finally:
        gc.unfreeze()
        for stream in streams:
            stream.transport.abort()


async def _wait_for_ends(streams: Sequence[LoadStream], until: float) -> None:
    """Waits until every stream is closed; one that is not by then is unfinished."""
    timeout = max(0.0, until - time.monotonic())
    open_ones = [stream.closed for stream in streams if not stream.closed.done()]
    if open_ones:
        await asyncio.wait(open_ones, timeout=timeout)
    for stream in streams:
        if not stream.closed.done():
            stream.give_up()


async def measure(load: Load, clips: Sequence[LoadClip]) -> RunTrace:
    """Runs a load. Raises KFusionError if its streams could not be opened."""
    started: list[float] = []
    watching: list[asyncio.Task[ServerUsage | None]] = []

    def begin() -> float:
        started.append(time.monotonic() + LEAD_S)
        watching.append(asyncio.create_task(watch(load, started[0])))
        return started[0]

    async def synchronise() -> float:
        return begin()

    plans = plan_streams(load, clips)
    try:
        if load.processes == 1:
            traces, cpu_s = await run_streams(load, plans, clips, synchronise)
        else:
            traces, cpu_s = await _run_in_processes(load, plans, clips, begin)
        wall_s = time.monotonic() - started[0]
        usage = None
        if wall_s >= load.seconds:  # else the server has ended
            with contextlib.suppress(TimeoutError):
                usage = await asyncio.wait_for(watching[0], USAGE_S)
    finally:
        for task in watching:
            task.cancel()
    traces.sort(key=lambda trace: trace.index)
    names = tuple(clip.name for clip in clips)
    cpu = cpu_s / min(wall_s, load.seconds)
    return RunTrace(load, names, started[0], traces, cpu, usage)


# Several processes


async def _run_in_processes(
    load: Load,
    plans: Sequence[StreamPlan],
    clips: Sequence[LoadClip],
    begin: Callable[[], float],
) -> tuple[list[StreamTrace], float]:
    """Runs every n-th stream in one of n processes; all begin at the same time."""
    context = multiprocessing.get_context("spawn")
    count = min(load.processes, len(plans))
    pipes: list[Pipe] = []
    workers: list[Any] = []
    join_s = 0.0  # after a failure, workers are killed at once
    try:
        for k in range(count):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=_work, args=(theirs, load, plans[k::count], list(clips)), daemon=True
            )
            with interrupts_blocked():
                worker.start()
            theirs.close()
            pipes.append(ours)
            workers.append(worker)
        for pipe in pipes:
            await _receive(pipe)
        start = begin()
        for pipe in pipes:
            pipe.send(start)
        traces: list[StreamTrace] = []
        cpu_s = 0.0
        for pipe in pipes:
            some, seconds = await _receive(pipe)
            traces += some
            cpu_s += seconds
        join_s = 5.0
        return traces, cpu_s
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join(join_s)
            if worker.is_alive():
                worker.kill()
                worker.join()


async def _receive(pipe: Pipe) -> Any:
    """What a worker sends; raises what it raised."""
    while not pipe.poll():  # noqa: ASYNC110 (a pipe has no event on every system)
        await asyncio.sleep(0.05)
    try:
        result = pipe.recv()
    except EOFError:
        raise ConnectionFailed("a process of the loader ended without a word") from None
    if isinstance(result, KFusionError):
        raise result
    return result


def _work(pipe: Pipe, load: Load, plans: list[StreamPlan], clips: list[LoadClip]) -> None:
    """A worker process: sends "ready", receives the time of the start, sends its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C

    async def synchronise() -> float:
        pipe.send("ready")
        while not pipe.poll():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return pipe.recv()

    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            pipe.send(asyncio.run(run_streams(load, plans, clips, synchronise)))
        except KFusionError as error:
            pipe.send(error)
