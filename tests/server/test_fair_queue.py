"""Turns: who takes little of the event loop is next, and nobody is left out."""

from __future__ import annotations

import asyncio

import pytest

from server.admission.fair_queue import ROUND, Share, Turns

pytestmark = pytest.mark.asyncio


async def serve(turns: Turns, costs: list[float], rounds: int) -> list[int]:
    """As many clients as costs, each asking again and again; how often each had its turn."""
    had = [0] * len(costs)

    async def ask(k: int) -> None:
        share = Share()
        while True:
            await turns.wait(share)
            had[k] += 1
            turns.spend(share, costs[k])

    tasks = [asyncio.create_task(ask(k)) for k in range(len(costs))]
    for _ in range(rounds):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return had


async def test_while_nothing_is_late_nobody_waits() -> None:
    turns = Turns(lambda: False)
    async with asyncio.timeout(1):
        for _ in range(1000):
            await turns.wait(Share())
    assert not turns.waiting


async def test_each_has_the_same_time_whatever_its_messages_cost() -> None:
    costs = [0.001] * (2 * ROUND) + [0.004] * (2 * ROUND)
    had = await serve(Turns(lambda: True), costs, 400)
    light, heavy = sum(had[: 2 * ROUND]), sum(had[2 * ROUND :])
    assert light / heavy == pytest.approx(4, rel=0.2)


async def test_one_that_seldom_asks_goes_before_those_that_always_do() -> None:
    turns = Turns(lambda: True)
    crowd = asyncio.create_task(serve(turns, [0.001] * 200, 10_000))
    seldom = Share()
    for _ in range(5):
        for _ in range(100):
            await asyncio.sleep(0)
        waited, rounds = asyncio.create_task(turns.wait(seldom)), 0
        while not waited.done():
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < 200 / ROUND
        turns.spend(seldom, 0.0001)
    crowd.cancel()
    await asyncio.gather(crowd, return_exceptions=True)


async def test_one_that_is_gone_takes_nobody_s_turn() -> None:
    turns = Turns(lambda: True)
    gone = asyncio.create_task(turns.wait(Share()))
    stays = asyncio.create_task(turns.wait(Share()))
    await asyncio.sleep(0)
    gone.cancel()
    async with asyncio.timeout(1):
        await stays
