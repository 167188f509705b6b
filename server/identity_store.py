"""Identities on disk: what a token's holders have put outlives the server.

``FOLDER/HOLDERS/ID.json``: one file a face, ``{"id": ..., "points": 68 pairs}``. HOLDERS is made
from the token by a slow hash, ID is the id's SHA-256, so that neither a token nor a client's own
words are names there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from kfusion import wire
from kfusion.errors import BadIdentity, BadOptions
from kfusion.landmarks import Identity

log = logging.getLogger("kfusion.identities")

ROUNDS: Final = 200_000  # of the token's hash
MOST_BYTES: Final = 1 << 16  # of a file; 68 pairs take some 3 KB


class _Kept(msgspec.Struct):
    id: str
    points: wire.Points


class IdentityFiles:
    """The files of one token's holders, at most ``limit`` of them.

    Raises :class:`~kfusion.errors.BadOptions` where the folder cannot be written to.
    """

    def __init__(self, folder: Path, token: str, limit: int) -> None:
        secret = token.encode("utf-8", "surrogateescape")
        name = hashlib.pbkdf2_hmac("sha256", secret, b"kfusion identities", ROUNDS).hex()[:32]
        self.folder, self.limit = folder / name, limit
        self.count = 0
        # One thread: files are written in order, and the event loop waits for no disk.
        self.writer = ThreadPoolExecutor(1, "identities")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise BadOptions(
                f"--identities {folder}: cannot be written to ({error.strerror}); wanted a folder "
                "of the server's own"
            ) from None

    def load(self) -> dict[str, Identity]:
        """The faces by their ids. A file that is none is left alone, with a warning."""
        faces: dict[str, Identity] = {}
        for path in sorted(self.folder.glob("*.json")):
            if len(faces) >= self.limit:
                log.warning("%s: not read, for %d faces are kept at most", path, self.limit)
                continue
            try:
                kept = _read(path)
                faces[kept.id] = Identity.from_points(kept.points)
            except (OSError, ValueError, BadIdentity) as error:
                log.warning("%s: no face can be read from it (%s); it is left aside", path, error)
        self.count = len(faces)
        return faces

    def save(self, name: str, face: Identity) -> None:
        """Writes a face that is not there yet, soon; whole or not at all."""
        if self.count < self.limit:
            self.count += 1
            self.writer.submit(self._write, name, face)

    def _write(self, name: str, face: Identity) -> None:
        path = self.folder / _file_of(name)
        part = path.with_suffix(".part")
        try:
            part.touch(mode=0o600)
            with part.open("wb") as out:
                out.write(msgspec.json.encode(_Kept(name, face.pairs)))
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
        except (OSError, UnicodeError) as error:
            log.warning("%s: cannot be written (%s); its face is kept until the end", path, error)
            with contextlib.suppress(OSError):
                part.unlink()

    def close(self) -> None:
        """Waits for what is still to be written."""
        self.writer.shutdown()


def _read(path: Path) -> _Kept:
    """Raises ``OSError`` and ``ValueError``."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES} bytes")
    kept = msgspec.json.decode(data, type=_Kept)  # its errors are ValueErrors
    if _file_of(kept.id) != path.name:
        raise ValueError("it is not named for the id in it")
    return kept


def _file_of(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() + ".json"
