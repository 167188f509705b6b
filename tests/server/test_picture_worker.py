"""The process that looks at pictures: what it finds, what ends it, what is remembered."""

from __future__ import annotations

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
from tests.drawn_photo import BLUE, bytes_of, photo, points_in_photo, torch_hub, two_faces
from tests.kfusion.bad_pictures import BAD

ROOT = Path(__file__).resolve().parents[2]


class Looked:
    """A queue of pictures, asked as sessions ask it."""

    def __init__(self, pictures: FaceFinderQueue) -> None:
        self.pictures = pictures

    async def at(self, data: bytes) -> SearchResult:
        return await asyncio.wait_for(self.pictures.submit(data), 120)

    async def refused(self, data: bytes) -> WireError:
        answer = await self.at(data)
        assert isinstance(answer, WireError), answer
        return answer

    async def found(self, data: bytes) -> FoundFace:
        answer = await self.at(data)
        assert isinstance(answer, FoundFace), answer
        return answer

    @property
    def looks(self) -> float:
        """Pictures that the process was given."""
        count = self.pictures.metrics.registry.get_sample_value("kfusion_picture_seconds_count")
        return count or 0.0


@asynccontextmanager
async def looking(finder: str = "dots", **limits: float) -> AsyncGenerator[Looked]:
    name = finder if ":" in finder else f"tests.drawn_photo:{finder}"
    pictures = FaceFinderQueue(Metrics(), name, **limits)
    try:
        yield Looked(pictures)
    finally:
        await pictures.close()
        assert pictures.process is None


def face(shade: int = 0) -> bytes:
    """A photo of the same face, another file for every shade."""
    picture = photo(200)
    picture.putpixel((0, 199), (shade % 256, shade // 256, 7))
    return bytes_of(picture)


@pytest.mark.asyncio
async def test_a_picture_that_takes_too_long_is_refused_and_the_next_one_has_another() -> None:
    async with looking("unreliable", load_s=60.0) as looked:
        await looked.found(face(1))  # it is loaded now
        looked.pictures.picture_s = 1.0
        told = await looked.refused(bytes_of(Image.new("RGB", (99, 99), BLUE)))
        assert told.code == "no_face" and "too long" in str(told)
        looked.pictures.picture_s = 60.0
        await looked.found(face(2))


@pytest.mark.asyncio
async def test_a_process_that_was_killed_meanwhile_is_replaced_unnoticed() -> None:
    async with looking() as looked:
        await looked.found(face(1))
        process = looked.pictures.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await looked.found(face(2))


@pytest.mark.asyncio
async def test_the_process_is_given_back_when_nobody_asks() -> None:
    async with looking(idle_s=0.01) as looked:
        await looked.found(face(1))
        process = looked.pictures.process
        if process is not None:
            await process.wait()
        await looked.found(face(2))
        assert looked.pictures.processes_started == 2


@pytest.mark.asyncio
async def test_the_same_picture_is_looked_at_once() -> None:
    async with looking() as looked:
        first, other = await asyncio.gather(looked.found(face()), looked.found(face()))
        assert await looked.found(face()) is first is other
        refused = await looked.refused(BAD["no face"][0])
        assert await looked.refused(BAD["no face"][0]) is refused
        assert looked.looks == 2


@pytest.mark.asyncio
async def test_only_so_many_answers_are_remembered() -> None:
    async with looking() as looked:
        cache = looked.pictures.cache
        cache.update({bytes([k % 256, k // 256]): NoFace("") for k in range(MAX_CACHED)})
        await looked.found(face())
        assert len(cache) == MAX_CACHED and b"\0\0" not in cache
        await looked.found(face())
        assert looked.looks == 1


@pytest.mark.asyncio
async def test_more_pictures_than_may_wait_are_refused_at_once() -> None:
    async with looking() as looked:
        results = [looked.pictures.submit(face(k)) for k in range(MAX_WAITING)]
        refusal = looked.pictures.submit(face(99)).result()
        assert isinstance(refusal, TooFast) and "32 pictures" in str(refusal)
        assert not any(result.done() for result in results)


@pytest.mark.asyncio
async def test_what_nobody_waits_for_is_not_looked_at() -> None:
    async with looking() as looked:
        results = [looked.pictures.submit(face(k)) for k in range(3)]
        for result in results[1:]:
            result.cancel()
        await looked.found(face(3))
        assert results[0].done() and looked.looks == 2


@pytest.mark.asyncio
async def test_where_nothing_can_look_it_is_said_what_to_install_and_tried_again_later() -> None:
    async with looking("missing") as looked:
        for _ in range(2):
            told = await looked.refused(face())
            assert told.code == "bad_message" and "pip install 'kfusion[face]'" in str(told)
        assert looked.looks == 1
        looked.pictures.unable = None  # as if the time had passed
        await looked.refused(face())
        assert looked.looks == 2


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


@pytest.mark.slow
@pytest.mark.asyncio
async def test_face_alignment_finds_the_face_of_a_photo(own_hub: Path) -> None:
    async with looking(FACE_ALIGNMENT, picture_s=100.0) as looked:
        off = (await looked.found(bytes_of(photo(), "JPEG"))).identity.points - points_in_photo()
        assert np.linalg.norm(off, axis=1).mean() < 8  # its weights were made in a moment
        told = [await looked.refused(BAD[name][0]) for name in ("no face", "two faces")]
        assert [(e.code, str(e)[:40]) for e in told] == [
            ("no_face", "identity.image: no face in a picture of "),
            ("no_face", "identity.image: 2 faces in the picture, "),
        ]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_weights_that_cannot_be_had_are_told_with_their_place(
    own_hub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    async with looking(FACE_ALIGNMENT, picture_s=100.0) as looked:
        told: Any = await looked.refused(face())
        assert told.code == "bad_message" and "weights cannot be loaded" in str(told)
        assert "wanted points" in str(told) and str(tmp_path) not in str(told)
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
