"""``python -m client identity``: a photo's face in a file that ``--identity`` reads."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.__main__ import arguments, main
from client.cli.identity import prepare_upload
from client.face_files import read_identity, read_photo
from client.sdk import connect
from kfusion import wire
from kfusion.errors import BadMessage, TooBig
from kfusion.faces.decode import MAX_BYTES, MAX_PIXELS, ORIENTATION, decode_picture
from kfusion.landmarks import lip_gap
from tests.client.memory_server import memory_transport
from tests.drawn_photo import SIDE, bytes_of, photo, points_in_photo
from tests.kfusion.bad_pictures import BAD
from tests.server.test_identity_pictures import finding
from tests.system.test_resume import serving


async def command(port: int, *options: str | Path) -> int:
    """The command against a server in this process."""
    url = f"ws://127.0.0.1:{port}"
    return await asyncio.to_thread(main, ["identity", "--url", url, *map(str, options)])


async def port_of(opened: Any) -> int:
    client = await opened()
    await client.ws.close()
    return int(client.port)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.asyncio
async def test_a_photos_face_is_written_for_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = saved(tmp_path / "me.png", bytes_of(photo())), tmp_path / "face.json"
    async with finding("open_mouthed") as (_, opened):
        port = await port_of(opened)
        assert await command(port, source, "--out", out) == 0
        output = capsys.readouterr().err
        assert "the mouth was open" in output and f"for --identity {out}" in output
        assert await command(port, source) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert np.abs(read_identity(out)[:48] - points_in_photo()[:48]).mean() < 2
    _, in_photo = read_photo(source, out)  # whose mouth is open
    assert lip_gap(in_photo) > 10 > 0.1 > abs(lip_gap(read_identity(out)))
    assert arguments(["file", "a.wav", "--out", "-", "--identity", str(out)]).face.shape == (68, 2)
    assert names_in(tmp_path) == ["face.json", "me.png"]


@pytest.mark.asyncio
async def test_a_large_turned_photo_is_made_smaller_and_its_points_are_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upright_photo = photo().resize((4100, 4100), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x9003] = "2020:01:01 00:00:00"
    stored = upright_photo.transpose(Image.Transpose.ROTATE_90)
    source = saved(tmp_path / "me.jpg", bytes_of(stored, "JPEG", exif=exif))
    async with finding() as (_, opened):
        port = await port_of(opened)
        assert await command(port, source, "--out", tmp_path / "f.json", "--id", "me") == 0
    output = capsys.readouterr().err
    assert "instead of 4100 x 4100, upright, without its EXIF data" in output
    assert "frames of identity 'me' are in its" in output
    assert np.abs(read_identity(tmp_path / "f.json") - points_in_photo(4100)).max() < 15
    assert json.loads((tmp_path / "f.json").read_text())["width"] == 4100


@pytest.mark.asyncio
async def test_what_went_wrong_is_one_plain_line_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "face.json"
    wrong = {
        "text named jpg": "not a picture (text)", "nothing": "0 bytes", "half a PNG": "broken",
        "no face": "no face in a picture of 300 x 300", "two faces": "cropped to one of them",
        "a face too small": "too small",
    }  # fmt: skip
    async with finding() as (_, opened):
        port = await port_of(opened)
        for name, message in wrong.items():
            source = saved(tmp_path / "me.jpg", BAD[name][0])
            assert await command(port, source, "--out", out) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"kfusion-client: {source}: ") and message in line, line
        assert await command(port, tmp_path / "none.jpg") == 2
        assert "none.jpg: cannot be read" in capsys.readouterr().err
        assert await command(port, tmp_path / "me.jpg", "--out", tmp_path / "no" / "face.json") == 2
        assert "no file can be written there" in capsys.readouterr().err
    assert names_in(tmp_path) == ["me.jpg"]


@pytest.mark.asyncio
async def test_a_server_that_finds_no_faces_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "me.png", bytes_of(photo()))
    async with serving(pictures=False) as (_, opened):
        assert await command(await port_of(opened), source) == 2
    assert "pip install 'kfusion[face]'" in capsys.readouterr().err


# The photo as it is sent


def test_a_photo_that_fits_and_tells_nothing_goes_as_it_is(tmp_path: Path) -> None:
    data = bytes_of(photo(), "JPEG")
    sent = prepare_upload(saved(tmp_path / "me.jpg", data))
    assert (sent.data, sent.size, sent.sent, sent.changes) == (data, (SIDE, SIDE), (SIDE, SIDE), "")


@pytest.mark.parametrize("side", [1200, pytest.param(4400, marks=pytest.mark.slow)])
def test_whatever_is_sent_is_within_the_limits(tmp_path: Path, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (side // 4, side // 4, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    sent = prepare_upload(saved(tmp_path / "me.webp", bytes_of(picture, "WEBP", quality=80)))
    assert len(sent.data) <= MAX_BYTES and sent.sent[0] * sent.sent[1] <= MAX_PIXELS
    assert decode_picture(sent.data).shape[:2] == sent.sent[::-1] and sent.size == (side, side)
    np.testing.assert_allclose(sent.in_photo([[sent.sent[0], 0]]), [[side, 0]])
    assert sent.changes


# In the SDK


@pytest.mark.asyncio
async def test_an_image_that_no_server_takes_is_told_before_it_is_sent() -> None:
    async with connect("memory", transport=memory_transport()) as face:
        with pytest.raises(TooBig, match="700001 bytes"):
            await face.set_identity("me", image=bytes(MAX_BYTES + 1))
        with pytest.raises(BadMessage):
            await face.set_identity("me", image=b"")
        with pytest.raises(BadMessage, match="wanted one of them"):
            await face.set_identity("me", points_in_photo(), image=bytes_of(photo()))
        await face.set_identity("me", image=bytes_of(photo()))
        event = await anext(face.events())
        assert isinstance(event, wire.Error) and event.code == "bad_message"
