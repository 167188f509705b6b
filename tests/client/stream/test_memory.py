"""The connection within the process: its documented servers, and the real session behind it."""

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
from kfusion import wire
from kfusion.errors import Busy
from kfusion.landmarks import NEUTRAL
from tests.client.events import all_events, stacked_points
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
