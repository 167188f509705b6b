"""A face from a client's picture, through real servers."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kfusion import wire
from kfusion.faces.resting_face import MOUTH_WAS_SHUT
from kfusion.landmarks import lip_gap
from tests.conftest import eventually, voice
from tests.drawn_photo import BLUE, RED, bytes_of, face, points_in_photo
from tests.kfusion.bad_pictures import BAD
from tests.system.raw_client import pcm
from tests.system.test_resume import Client, offline, serving

pytestmark = pytest.mark.asyncio

SIZE = 200


def plain(colour: tuple[int, int, int]) -> bytes:
    return bytes_of(Image.new("RGB", (90, 90), colour))


def image(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def send_picture(client: Client, data: bytes, name: str = "me") -> None:
    await client.send(type="identity", id=name, image=image(data))


async def identity_answer(client: Client) -> Any:
    """The next answer to an identity."""
    while not isinstance(answer := await client.next(), (wire.IdentitySet, wire.Error)):
        assert answer is not None
    return answer


def finding(finder: str = "dots", **config: Any) -> AbstractAsyncContextManager[Any]:
    return serving(face_finder=f"tests.drawn_photo:{finder}", **config)


@pytest.mark.parametrize("media", ["socket", "webrtc"])
async def test_a_picture_becomes_the_face_that_is_shown(media: str) -> None:
    async with finding() as (_, opened):
        client = await opened(media=media)
        await send_picture(client, face())
        answer = await identity_answer(client)
        assert isinstance(answer, wire.IdentitySet), answer
        assert (answer.id, answer.n, answer.note) == ("me", 0, wire.UNSET)
        assert np.abs(np.array(answer.points) - points_in_photo(SIZE)).max() < 1
        if media == "socket":
            await client.ws.send(pcm(voice(1.0)))
            await client.frames_until(3)
            assert np.abs(client.points[0] - points_in_photo(SIZE)).max() < 12
        await client.abort()


async def test_an_open_mouth_is_shut_and_told_with_what_was_seen() -> None:
    async with finding("open_mouthed") as (_, opened):
        client = await opened()
        await send_picture(client, face())
        answer = await identity_answer(client)
        assert isinstance(answer, wire.IdentitySet) and answer.note == MOUTH_WAS_SHUT
        assert answer.seen is not wire.UNSET
        assert lip_gap(np.array(answer.seen)) > 10 > 0.1 > abs(lip_gap(np.array(answer.points)))
        await client.abort()


async def test_bad_pictures_are_told_plainly_and_nobody_else_notices() -> None:
    sound = voice(8.0)
    bad: dict[str, tuple[bytes, str, str]] = {
        **BAD,
        "one that ends the process": (plain(RED), "no_face", "ended over it"),
    }
    async with finding("unreliable") as (app, opened):
        other, client = await opened(mode="file"), await opened()

        streaming = asyncio.create_task(other.stream(sound))
        for name, (data, code, words) in bad.items():
            await send_picture(client, data)
            answer = await identity_answer(client)
            assert isinstance(answer, wire.Error), name
            assert (answer.code, answer.fatal) == (code, False) and words in answer.message, answer
        await streaming
        np.testing.assert_allclose(other.points, offline(sound), atol=1e-4)
        assert not [m for m in other.received if isinstance(m, (wire.Error, wire.Dropped))]
        await send_picture(client, face())
        assert isinstance(await identity_answer(client), wire.IdentitySet)
        assert app.registry.figures().count(b"kfusion_pictures_total{outcome=") >= 4
        assert app.registry.faces.processes_started == 2
        await client.abort()


async def test_live_frames_go_on_while_a_picture_never_ends() -> None:
    sound = voice(3.0)
    async with finding("unreliable") as (app, opened):
        client = await opened()
        await send_picture(client, face())
        await identity_answer(client)
        app.registry.faces.picture_s = 60.0
        await send_picture(client, plain(BLUE), "nobody")
        await client.ws.send(pcm(sound))
        await client.send(type="end")  # the answer is waited for, but not its frames
        await client.frames_until(90)
        assert not client.codes
        assert app.registry.faces.process is not None
        app.registry.faces.process.kill()
        await client.rest()
        assert client.codes == ["no_face"] and isinstance(client.received[-1], wire.End)


@pytest.fixture
def open_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the file for which the waiting finder waits."""
    monkeypatch.setenv("KFUSION_TEST_GATE", str(tmp_path / "gate"))
    return (tmp_path / "gate").touch


@asynccontextmanager
async def behind(open_gate: Callable[[], None], **config: Any) -> AsyncGenerator[Any]:
    async with finding("waiting", **config) as served:
        try:
            yield served
        finally:
            open_gate()


async def test_a_client_that_leaves_is_not_waited_for(open_gate: Callable[[], None]) -> None:
    async with behind(open_gate) as (app, opened):
        first, client = await opened(), await opened()
        await send_picture(first, face(1))
        await eventually(lambda: bool(app.registry.faces.processes_started))
        leaver = await opened()
        await send_picture(leaver, face(2))
        await eventually(lambda: bool(app.registry.faces.waiting))
        await leaver.ws.close(1000)
        await eventually(lambda: not app.registry.faces.waiting)
        await send_picture(client, face(3))
        open_gate()
        assert (await identity_answer(client)).id == (await identity_answer(first)).id == "me"
        assert app.metrics.registry.get_sample_value("kfusion_picture_seconds_count") == 2
        await client.abort()
        await first.abort()


async def test_a_server_that_stops_does_not_wait_for_a_picture(
    open_gate: Callable[[], None],
) -> None:
    async with finding("waiting") as (_, opened):
        client = await opened(mode="file")
        await send_picture(client, face())
        await client.ws.send(pcm(voice(1.0)))
        await client.frames_until(24)
        leaving = asyncio.create_task(client.rest())
    await leaving
    assert client.codes == ["bad_identity"] and client.ws.close_code == 1001
    assert client.received[-1] == wire.End(30, 0, 1.0)
