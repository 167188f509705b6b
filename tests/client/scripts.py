"""Random sequences of what a client sends, performed while its events are read."""

import asyncio
from typing import Any

from hypothesis import strategies as st

from client import Face, connect
from client.stream.transport import Opener
from kfusion.landmarks import NEUTRAL
from tests.client.cut_connections import NO_WAIT
from tests.conftest import voice

RATE = 16_000
IDENTITIES = {"me": 2 * NEUTRAL, "you": 3 * NEUTRAL + 100}

Script = list[tuple[Any, ...]]
ACTIONS = st.one_of(
    st.tuples(st.just("sound"), st.integers(1, 12_000)),
    st.tuples(st.just("sound"), st.integers(1, 900)),
    st.tuples(st.just("silence"), st.integers(1, 6_000)),
    st.tuples(st.just("mark"), st.sampled_from("ab")),
    st.tuples(st.just("emotion"), st.sampled_from(["happy", "sad"]), st.sampled_from([0.0, 0.3])),
    st.tuples(st.just("identity"), st.sampled_from(["me", "you", "nobody"])),
    st.tuples(st.just("reset")),
)
# The answer to a resumption always arrives: its token serves once.
CUTS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=5)


async def perform(face: Face, script: Script) -> None:
    for action, *values in script:
        match action:
            case "sound":
                await face.send(voice(values[0] / RATE, seed=values[0]))
            case "silence":
                await face.silence(*values)
            case "mark":
                await face.mark(*values)
            case "emotion":
                name, ramp = values
                await face.set_emotion({name: 1.0}, ramp)
            case "identity":
                await face.set_identity(values[0], IDENTITIES.get(values[0]))
            case _:
                await face.reset()
    await face.end()


async def run_script(script: Script, opener: Opener, **options: Any) -> list[Any]:
    """Performs a script while its events are read, and gives all of them."""
    async with (
        asyncio.timeout(20),
        connect("memory", transport=opener, reconnect=NO_WAIT, **options) as face,
    ):
        performing = asyncio.create_task(perform(face, script))
        events = [event async for event in face.events()]
        await performing
    assert len(asyncio.all_tasks()) == 1
    return events
