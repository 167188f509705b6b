"""Faces on disk, rows of ``FOLDER/identities.sqlite``; the holder is a slow hash of the token."""

import hashlib
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from kfusion import wire
from kfusion.errors import BadIdentity, BadOptions
from kfusion.landmarks import COUNT, Identity

log = logging.getLogger("kfusion.identities")

ROUNDS: Final = 200_000  # of the token's hash


class _File(msgspec.Struct):
    """A face as version 0.1 kept it, in a file of its own."""

    id: str
    points: wire.Points


class IdentityStore:
    """The faces of one token's holders. ``faces``: those on disk at the start, at most ``limit``.

    Raises :class:`~kfusion.errors.BadOptions` for a folder that cannot be used.
    """

    def __init__(self, folder: Path, token: str, limit: int) -> None:
        secret = token.encode("utf-8", "surrogateescape")
        hashed = hashlib.pbkdf2_hmac("sha256", secret, b"kfusion identities", ROUNDS)
        self.holder = hashed.hex()[:32]
        path = folder / "identities.sqlite"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS faces"
                " (holder TEXT, id TEXT, points BLOB, PRIMARY KEY (holder, id))"
            )
            self._import_files(folder / self.holder)
            self.faces = self._load(limit)
        except (OSError, sqlite3.Error, ValueError, BadIdentity) as error:
            raise BadOptions(
                f"--identities {folder}: cannot be used ({error}); wanted a folder of the server's "
                "own"
            ) from None
        # Disk writes happen on one thread, never on the event loop.
        self.writer = ThreadPoolExecutor(1, "identities")

    def _import_files(self, folder: Path) -> None:
        """Adds the faces of version 0.1; their files stay where they are."""
        for path in sorted(folder.glob("*.json")):
            try:
                face = msgspec.json.decode(path.read_bytes(), type=_File)
                self._write(face.id, Identity.from_points(face.points))
            except (OSError, ValueError, BadIdentity) as error:
                log.warning("%s: no face can be read from it (%s)", path, error)

    def _load(self, limit: int) -> dict[str, Identity]:
        query = "SELECT id, points FROM faces WHERE holder = ? ORDER BY rowid LIMIT ?"
        return {
            name: Identity.from_points(np.frombuffer(points, "<f8").reshape(COUNT, 2))
            for name, points in self.database.execute(query, (self.holder, limit))
        }

    def save(self, name: str, face: Identity) -> None:
        """Writes a face in the background, whole or not at all."""
        self.writer.submit(self._write, name, face)

    def _write(self, name: str, face: Identity) -> None:
        row = self.holder, name, face.points.astype("<f8").tobytes()
        try:
            self.database.execute("INSERT OR IGNORE INTO faces VALUES (?, ?, ?)", row)
        except (sqlite3.Error, UnicodeError) as error:
            log.warning("identity %r cannot be written (%s): it is lost at the end", name, error)

    def close(self) -> None:
        """Waits for what is still to be written."""
        self.writer.shutdown()
        self.database.close()
