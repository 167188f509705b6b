"""A face from a photo: its 68 points at rest, found by a server or on this machine."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from client.atomic_file import WholeFile
from client.errors import named_error
from client.photo import Photo, prepared
from client.sdk import connect
from kfusion import wire
from kfusion.errors import ConnectionLost, KFusionError, WireError
from kfusion.faces.portrait import Portrait, portrait
from kfusion.landmarks import Points

ANSWER_S: Final = 180.0  # a server may have to fetch its networks first


def run(a: argparse.Namespace) -> None:
    """The command. Raises a :class:`~kfusion.errors.KFusionError` that says why not."""
    out = None if a.out in (None, "-") else WholeFile(a.out)
    try:
        photo = prepared(a.photo)
        _tell(a.photo, photo.changed and f"looked at {photo.changed}")
        face = _here(a.photo, photo) if a.local else asyncio.run(_asked(a, photo))
        _tell(a.photo, face.note)
        text = as_json(face, photo)
        if out is None:
            print(text)
        else:
            out.temporary.write_text(text + "\n")
            out.keep()
            _tell(a.photo, f"its face is in {a.out}, for --identity {a.out}")
    finally:
        if out is not None:
            out.discard()


def as_json(face: Portrait, photo: Photo) -> str:
    """What ``--identity`` reads: points in pixels of the upright photo, and its size; with them,
    as ``photo``, the points as they lie in it where its mouth was open.
    """

    def pairs(points: Points) -> list[list[float]]:
        return [[round(float(x), 2), round(float(y), 2)] for x, y in photo.own(points)]

    said: dict[str, Any] = {"points": pairs(face.points)}
    if face.seen is not None:
        said["photo"] = pairs(face.seen)
    return json.dumps(said | {"width": photo.size[0], "height": photo.size[1]})


def _tell(path: Path, what: str) -> None:
    if what:
        print(f"kfusion-client: {path}: {what}", file=sys.stderr)


def _here(path: Path, photo: Photo) -> Portrait:
    """With face_alignment on this machine."""
    from kfusion.faces import FaceNetworks
    from kfusion.faces.pictures import upright

    try:
        return portrait(upright(photo.data), FaceNetworks())
    except WireError as error:
        raise type(error)(f"{path}: {error}") from None


async def _asked(a: argparse.Namespace, photo: Photo) -> Portrait:
    name = a.id or f"picture-{hashlib.sha256(photo.data).hexdigest()[:16]}"
    # A file's stream takes no live one's place, and it is over with the answer.
    async with connect(a.url, mode="file", token=a.token, reconnect=False) as face:
        await face.set_identity(name, image=photo.data)
        try:
            async with asyncio.timeout(ANSWER_S):
                said = await _answer(face.events())
        except TimeoutError:
            raise ConnectionLost(f"no answer to the photo within {ANSWER_S:g} s") from None
    if isinstance(said, wire.Error):
        error = named_error(said)
        raise type(error)(f"{a.photo}: {str(error).removeprefix('identity.image: ')}")
    if a.id and photo.sent != photo.size:
        width, height = photo.sent
        _tell(a.photo, f"frames of identity {a.id!r} are in its {width} x {height} pixels")
    note = "" if said.note is wire.UNSET else said.note
    seen = None if said.seen is wire.UNSET else np.array(said.seen)
    return Portrait(np.array(said.points), note, seen)


async def _answer(events: Any) -> wire.IdentitySet | wire.Error:
    async for event in events:
        if isinstance(event, (wire.IdentitySet, wire.Error)):
            return event
    raise KFusionError("the server ended the stream without an answer to the photo")
