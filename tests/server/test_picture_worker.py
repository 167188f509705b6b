"""The process that finds faces in pictures: its results, its ends, the cache of results."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kfusion.errors import NoFace, TooFast, WireError
from server.config import FACE_ALIGNMENT
from server.metrics import Metrics
from server.pictures.queue import MAX_CACHED, MAX_WAITING, FaceFinderQueue
from server.pictures.request import FoundFace, SearchResult
from tests.drawn_photo import BLUE, bytes_of, face, photo, points_in_photo, torch_hub, two_faces
from tests.kfusion.bad_pictures import BAD

ROOT = Path(__file__).resolve().parents[2]


class QueueClient:
    """Submits pictures to a queue and waits for their results."""

    def __init__(self, queue: FaceFinderQueue) -> None:
        self.queue = queue

    async def result(self, data: bytes) -> SearchResult:
        return await asyncio.wait_for(self.queue.submit(data), 120)

    async def refused(self, data: bytes) -> WireError:
        answer = await self.result(data)
        assert isinstance(answer, WireError), answer
        return answer

    async def found(self, data: bytes) -> FoundFace:
        answer = await self.result(data)
        assert isinstance(answer, FoundFace), answer
        return answer

    @property
    def searches(self) -> float:
        """Pictures that the process was given."""
        count = self.queue.metrics.registry.get_sample_value("kfusion_picture_seconds_count")
        return count or 0.0


@asynccontextmanager
async def face_queue(finder: str = "dots", **limits: float) -> AsyncGenerator[QueueClient]:
    name = finder if ":" in finder else f"tests.drawn_photo:{finder}"
    queue = FaceFinderQueue(Metrics(), name, **limits)
    try:
        yield QueueClient(queue)
    finally:
        await queue.close()
        assert queue.process is None


@pytest.mark.asyncio
async def test_a_picture_that_takes_too_long_is_refused_and_the_next_one_has_another() -> None:
    async with face_queue("unreliable", load_s=60.0) as client:
        await client.found(face(1))  # it is loaded now
        client.queue.picture_s = 1.0
        error = await client.refused(bytes_of(Image.new("RGB", (99, 99), BLUE)))
        assert error.code == "no_face" and "too long" in str(error)
        client.queue.picture_s = 60.0
        await client.found(face(2))


@pytest.mark.asyncio
async def test_a_process_that_was_killed_meanwhile_is_replaced_unnoticed() -> None:
    async with face_queue() as client:
        await client.found(face(1))
        process = client.queue.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await client.found(face(2))


@pytest.mark.asyncio
async def test_the_process_is_given_back_when_nobody_asks() -> None:
    async with face_queue(idle_s=0.01) as client:
        await client.found(face(1))
        process = client.queue.process
        if process is not None:
            await process.wait()
        await client.found(face(2))
        assert client.queue.processes_started == 2


@pytest.mark.asyncio
async def test_the_same_picture_is_looked_at_once() -> None:
    async with face_queue() as client:
        first, other = await asyncio.gather(client.found(face()), client.found(face()))
        assert await client.found(face()) is first is other
        refused = await client.refused(BAD["no face"][0])
        assert await client.refused(BAD["no face"][0]) is refused
        assert client.searches == 2


@pytest.mark.asyncio
async def test_only_so_many_answers_are_remembered() -> None:
    async with face_queue() as client:
        cache = client.queue.cache
        cache.update({bytes([k % 256, k // 256]): NoFace("") for k in range(MAX_CACHED)})
        await client.found(face())
        assert len(cache) == MAX_CACHED and b"\0\0" not in cache
        await client.found(face())
        assert client.searches == 1


@pytest.mark.asyncio
async def test_more_pictures_than_may_wait_are_refused_at_once() -> None:
    async with face_queue() as client:
        results = [client.queue.submit(face(k)) for k in range(MAX_WAITING)]
        refusal = client.queue.submit(face(99)).result()
        assert isinstance(refusal, TooFast) and "32 pictures" in str(refusal)
        assert not any(result.done() for result in results)


@pytest.mark.asyncio
async def test_what_nobody_waits_for_is_not_looked_at() -> None:
    async with face_queue() as client:
        results = [client.queue.submit(face(k)) for k in range(3)]
        for result in results[1:]:
            result.cancel()
        await client.found(face(3))
        assert results[0].done() and client.searches == 2


@pytest.mark.asyncio
async def test_where_nothing_can_look_it_is_said_what_to_install_and_tried_again_later() -> None:
    async with face_queue("missing") as client:
        for _ in range(2):
            error = await client.refused(face())
            assert error.code == "bad_message" and "pip install 'kfusion[face]'" in str(error)
        assert client.searches == 1
        client.queue.unable = None  # as if the time had passed
        await client.refused(face())
        assert client.searches == 2


# With face_alignment's own classes


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_hub(tmp_path_factory.mktemp("made") / "hub")


@pytest.fixture
def own_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the process looks for weights."""
    monkeypatch.setenv("TORCH_HOME", str(hub.parent))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    return hub


@pytest.mark.asyncio
@pytest.mark.slow
async def test_face_alignment_finds_the_face_of_a_photo(own_hub: Path) -> None:
    async with face_queue(FACE_ALIGNMENT, picture_s=100.0) as client:
        off = (await client.found(bytes_of(photo(), "JPEG"))).identity.points - points_in_photo()
        assert np.linalg.norm(off, axis=1).mean() < 8  # its weights were made in a moment
        error = [await client.refused(BAD[name][0]) for name in ("no face", "two faces")]
        assert [(e.code, str(e)[:40]) for e in error] == [
            ("no_face", "identity.image: no face in a picture of "),
            ("no_face", "identity.image: 2 faces in the picture, "),
        ]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_weights_that_cannot_be_had_are_told_with_their_place(
    own_hub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    async with face_queue(FACE_ALIGNMENT, picture_s=100.0) as client:
        error: Any = await client.refused(face())
        assert error.code == "bad_message" and "weights cannot be loaded" in str(error)
        assert "wanted points" in str(error) and str(tmp_path) not in str(error)
    assert "cannot be loaded (<urlopen error [Errno 111] Connection refused>)" in caplog.text
    assert f"{tmp_path}/hub/checkpoints" in caplog.text


@pytest.mark.slow
def test_the_command_finds_it_without_a_server(own_hub: Path, tmp_path: Path) -> None:
    for name, picture in (("me.png", photo()), ("us.png", two_faces())):
        (tmp_path / name).write_bytes(bytes_of(picture))
        done = subprocess.run(
            [sys.executable, "-m", "client", "identity", "--local", str(tmp_path / name)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if name == "me.png":
            assert done.returncode == 0, done.stderr
            off = np.array(json.loads(done.stdout)["points"]) - points_in_photo()
            assert np.linalg.norm(off, axis=1).mean() < 8
    assert done.returncode == 2 and "us.png: 2 faces in the picture" in done.stderr
