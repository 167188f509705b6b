"""Identities on disk: kept over a restart, for the holders of one token."""

import hashlib
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from kfusion import wire
from kfusion.errors import BadIdentity, BadOptions
from kfusion.landmarks import NEUTRAL, Identity
from server.app import App
from server.config import ServerConfig
from server.identity_store import IdentityStore
from server.session.identities import Identities
from tests.conftest import start_server, stop_server
from tests.system.raw_client import RawClient

FACE = Identity.from_points(2 * NEUTRAL + 0.1)


@contextmanager
def store(folder: Path, token: str = "secret", limit: int = 64) -> Generator[IdentityStore]:
    opened = IdentityStore(folder, token, limit)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("name", ["me", "../../etc/passwd", "é" * 200, "", "\0"])
def test_a_face_comes_back_as_it_was_under_any_name(tmp_path: Path, name: str) -> None:
    with store(tmp_path) as opened:
        opened.save(name, FACE)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o77 == 0
    with store(tmp_path) as opened:
        ((found, face),) = opened.faces.items()
    assert found == name and np.array_equal(face.points, FACE.points)


def test_a_tokens_faces_are_its_holders_alone_and_the_token_is_written_nowhere(
    tmp_path: Path,
) -> None:
    with store(tmp_path, "secret") as opened:
        opened.save("me", FACE)
    with store(tmp_path, "another") as opened:
        assert opened.faces == {}
    (path,) = tmp_path.iterdir()
    assert b"secret" not in path.read_bytes()


def test_only_so_many_are_kept_and_read(tmp_path: Path) -> None:
    with store(tmp_path, limit=3) as opened:
        identities = Identities(3, opened.save)
        for name in "abc":
            identities.put(name, FACE)
            identities.put(name, FACE)  # which it is already
        with pytest.raises(BadIdentity, match="3 identities are kept"):
            identities.put("d", FACE)
    with store(tmp_path, limit=2) as opened:
        assert list(opened.faces) == ["a", "b"]
    with store(tmp_path) as opened:
        assert list(opened.faces) == ["a", "b", "c"]


def test_files_of_version_0_1_are_imported_and_left_where_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store(tmp_path) as opened:
        folder = tmp_path / opened.holder
    folder.mkdir()
    file = folder / f"{hashlib.sha256(b'me').hexdigest()}.json"
    file.write_text(json.dumps({"id": "me", "points": FACE.pairs}))
    for name, data in {"empty": b"", "other": b'{"id":3,"points":[]}'}.items():
        (folder / f"{name}.json").write_bytes(data)
    (folder / "folder.json").mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with store(tmp_path) as opened:
                assert list(opened.faces) == ["me"]
                np.testing.assert_array_equal(opened.faces["me"].points, FACE.points)
    for name in ("empty", "other", "folder"):
        assert f"{name}.json: no face can be read from it" in caplog.text
    assert file.exists()


@pytest.mark.parametrize("content", ["a file in the folder's place", "no database"])
def test_a_folder_that_cannot_be_used_is_told_at_once(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "folder"
    if content == "no database":
        folder.mkdir()
        (folder / "identities.sqlite").write_bytes(b"hello " * 1000)
    else:
        folder.touch()
    with pytest.raises(BadOptions, match=r"--identities .*folder: cannot be used"):
        IdentityStore(folder, "secret", 64)


def test_a_database_that_went_away_costs_nothing_but_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store(tmp_path) as opened:
        opened.database.execute("DROP TABLE faces")
        opened.save("me", FACE)
    assert "identity 'me' cannot be written" in caplog.text


def test_identities_are_kept_for_a_tokens_holders_alone(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="wanted --token too"):
        App(ServerConfig(port=0, engine="synthetic", identities=tmp_path))


@pytest.mark.asyncio
async def test_a_face_outlives_the_server(tmp_path: Path) -> None:
    points = FACE.points.tolist()
    for message in (
        {"type": "identity", "id": "mine", "points": points},
        {"type": "identity", "id": "mine"},
    ):
        server = start_server(
            "--engine", "synthetic", "--token", "secret", "--identities", str(tmp_path)
        )
        try:
            headers = {"Authorization": "Bearer secret"}
            async with connect(server.url, additional_headers=headers) as ws:
                raw = RawClient(ws)
                await raw.send(type="start")
                assert isinstance(await raw.next(), wire.Ready)
                await raw.send(**message)
                answer = await raw.next()
                assert isinstance(answer, wire.IdentitySet), answer
                np.testing.assert_array_equal(answer.points, points)
        finally:
            assert stop_server(server) == 0
