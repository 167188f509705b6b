"""The connection within the process: its documented servers, and the real session behind it."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from client import connect
from client.stream import memory
from client.stream.memory import MemoryTransport
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import Busy
from kfusion.landmarks import NEUTRAL
from tests.client.events import all_events, stacked_points
from tests.client.manual_clock import ManualClock
from tests.client.memory_server import MemoryServer, sent_silences
from tests.conftest import voice


def documented() -> dict[str, Any]:
    """The functions of the module's docstring."""
    names: dict[str, Any] = vars(memory) | {
        "Iterable": Iterable, "NEUTRAL": NEUTRAL, "count": itertools.count, "wire": wire,
    }  # fmt: skip
    blocks = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", memory.__doc__ or "")
    for block in blocks[:2]:
        exec(compile(textwrap.dedent(block), "docstring", "exec"), names)
    return names


@pytest.mark.asyncio
async def test_the_documented_servers_answer_as_the_documentation_says() -> None:
    names = documented()
    with pytest.raises(Busy, match="taken") as busy:
        async with connect("memory", transport=MemoryTransport(names["busy"])):
            pass
    assert busy.value.retry_after_s == 7
    transport = MemoryTransport(names["at_rest"]())
    async with connect("memory", transport=transport) as face:
        for _ in range(3):
            await face.send(voice(0.1))
        await face.end()
        events = await all_events(face)
    np.testing.assert_allclose(
        stacked_points(events), np.broadcast_to(NEUTRAL, (3, 68, 2)), atol=1e-4
    )
    assert events[-1] == wire.End(3, 0, 0.0)


@pytest.mark.asyncio
async def test_by_the_time_of_a_clock_frames_come_at_most_two_seconds_before_they_are_due() -> None:
    clock = ManualClock()
    server = MemoryServer(clock=clock.now)
    transport = MemoryTransport(server)
    async with connect("memory", transport=transport, clock=clock, fill_silence=False) as face:
        await face.send(voice(10.0))
        assert 57 <= server.session.summary().sent <= 60
        await clock.advance(3.0)
        await face.mark("now")
        assert 147 <= server.session.summary().sent <= 150
        assert sent_silences(transport) == []


def answers(server: MemoryServer, message: str) -> list[Any]:
    told = list(server(message))
    return [wire.parse_server(a) if isinstance(a, str) else a for a in told]


@pytest.mark.parametrize(("resume_s", "known"), [(30, True), (30, False), (0, True)])
def test_only_a_kept_session_goes_on_and_only_with_its_token(resume_s: int, known: bool) -> None:
    server = MemoryServer(resume_s)
    (ready,) = answers(server, wire.encode(wire.Start()))
    token = ready.resume if known else "another"
    resume = wire.encode(wire.Start(resume=wire.ResumeFrom(token, 0)))
    first, *rest = answers(server, resume)
    if resume_s and known:
        assert (first.n, first.session, rest) == (0, ready.session, [])
        assert first.resume == server.session.token != token
        return
    assert isinstance(first, wire.Error)
    assert (first.code, first.fatal) == ("unknown_session", True)
    (closed,) = rest
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason) == (4400, "unknown_session")
