"""Fair queueing: a client that uses little of the event loop goes first, and none is left out."""

import asyncio

import pytest

from server.admission.fair_queue import BATCH, FairQueue, Flow

pytestmark = pytest.mark.asyncio


async def serve(queue: FairQueue, costs: list[float], rounds: int) -> list[int]:
    """A client for each cost, which waits again and again; how often each went on."""
    turns = [0] * len(costs)

    async def client(k: int) -> None:
        flow = Flow()
        while True:
            await queue.wait(flow)
            turns[k] += 1
            queue.charge(flow, costs[k])

    tasks = [asyncio.create_task(client(k)) for k in range(len(costs))]
    for _ in range(rounds):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return turns


async def test_without_overload_no_client_waits() -> None:
    queue = FairQueue(lambda: False)
    async with asyncio.timeout(1):
        for _ in range(1000):
            await queue.wait(Flow())
    assert not queue.waiting


async def test_each_client_has_the_same_time_whatever_its_messages_cost() -> None:
    costs = [0.001] * (2 * BATCH) + [0.004] * (2 * BATCH)
    turns = await serve(FairQueue(lambda: True), costs, 400)
    light, heavy = sum(turns[: 2 * BATCH]), sum(turns[2 * BATCH :])
    assert light / heavy == pytest.approx(4, rel=0.2)


async def test_a_client_that_seldom_waits_goes_before_those_that_always_do() -> None:
    queue = FairQueue(lambda: True)
    crowd = asyncio.create_task(serve(queue, [0.001] * 200, 10_000))
    seldom = Flow()
    for _ in range(5):
        for _ in range(100):
            await asyncio.sleep(0)
        waiting, rounds = asyncio.create_task(queue.wait(seldom)), 0
        while not waiting.done():
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < 200 / BATCH
        queue.charge(seldom, 0.0001)
    crowd.cancel()
    await asyncio.gather(crowd, return_exceptions=True)


async def test_a_cancelled_client_uses_no_turn() -> None:
    queue = FairQueue(lambda: True)
    cancelled = asyncio.create_task(queue.wait(Flow()))
    other = asyncio.create_task(queue.wait(Flow()))
    await asyncio.sleep(0)
    cancelled.cancel()
    async with asyncio.timeout(1):
        await other
