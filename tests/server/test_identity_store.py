"""Identities on disk: kept over a restart, whatever else lies in their folder."""

from __future__ import annotations

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
from server.identity_store import IdentityFiles
from server.session.identities import Identities
from tests.conftest import start_server, stop_server
from tests.system.raw_client import RawClient

FACE = Identity.from_points(2 * NEUTRAL + 0.1)


@contextmanager
def kept(folder: Path, token: str = "secret", limit: int = 64) -> Generator[IdentityFiles]:
    files = IdentityFiles(folder, token, limit)
    try:
        yield files
    finally:
        files.close()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["me", "../../etc/passwd", "a/b", "CON", "é" * 200, ".", "\0"])
def test_a_face_comes_back_as_it_was_under_any_name(tmp_path: Path, name: str) -> None:
    with kept(tmp_path) as files:
        files.save(name, FACE)
    (path,) = files_in(tmp_path)
    assert path.stem.isalnum() and len(path.stem) == 64 and path.stat().st_mode & 0o77 == 0
    with kept(tmp_path) as files:
        (found,) = files.load().items()
    assert found[0] == name and np.array_equal(found[1].points, FACE.points)


def test_a_tokens_faces_are_its_holders_alone_and_the_token_is_written_nowhere(
    tmp_path: Path,
) -> None:
    with kept(tmp_path, "secret") as files:
        files.save("me", FACE)
    with kept(tmp_path, "another") as files:
        assert files.load() == {}
    assert not any("secret" in str(p) or b"secret" in p.read_bytes() for p in files_in(tmp_path))


def test_broken_files_are_named_and_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(tmp_path) as files:
        files.save("me", FACE)
    (good,) = files_in(tmp_path)
    whole = good.read_bytes()
    line = json.dumps({"id": "me", "points": [[k, k] for k in range(68)]}).encode()
    broken = {
        "empty": b"", "half": whole[:500], "text": b"hello", "line": line,
        "binary": bytes(range(256)), "large": whole.ljust(1 << 17), "renamed": whole,
        "other": b'{"id":3,"points":[]}',
    }  # fmt: skip
    for name, data in broken.items():
        (good.parent / f"{name}.json").write_bytes(data)
    (good.parent / "folder.json").mkdir()
    (good.parent / "unfinished.part").write_bytes(whole[:9])
    with kept(tmp_path) as files, caplog.at_level(logging.WARNING):
        assert list(files.load()) == ["me"]
    for name in (*broken, "folder"):
        assert f"{name}.json: no face can be read from it" in caplog.text
    assert good.read_bytes() == whole


def test_only_so_many_are_kept_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with kept(tmp_path, limit=3) as files:
        known = Identities(3, files.save)
        for name in "abc":
            known.put(name, FACE)
            known.put(name, FACE)  # which it is already
        with pytest.raises(BadIdentity, match="3 identities are kept"):
            known.put("d", FACE)
        files.save("d", FACE)
    assert len(files_in(tmp_path)) == 3
    with kept(tmp_path, limit=2) as files:
        assert len(files.load()) == 2
    assert "not read, for 2 faces are kept at most" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadOptions, match=r"--identities .*file: cannot be written to"):
        IdentityFiles(tmp_path / "file", "secret", 64)


def test_a_folder_that_went_away_costs_nothing_but_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(tmp_path) as files:
        files.folder.rmdir()
        files.save("me", FACE)
    assert "cannot be written" in caplog.text


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
                said = await raw.next()
                assert isinstance(said, wire.IdentitySet), said
                np.testing.assert_array_equal(said.points, points)
        finally:
            assert stop_server(server) == 0
