"""Plain HTTP: answers, and the page's files."""

from __future__ import annotations

import importlib.util
from http import HTTPStatus
from pathlib import Path
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Response

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".webp": "image/webp",
    ".bin": "application/octet-stream",
    ".wasm": "application/wasm",
}
# Each is listed, and none beneath it.
_FOLDERS: Final = ("", "audio/", "face/", "net/", "photo/", "ui/", "vendor/", "portraits/")


def answer(
    status: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    headers: dict[str, str] | None = None,
) -> Response:
    fields = Headers()
    fields["Content-Type"] = content_type
    fields["Content-Length"] = str(len(body))
    fields["Cache-Control"] = "no-cache"
    fields["X-Content-Type-Options"] = "nosniff"
    fields["Connection"] = "close"
    for name, value in (headers or {}).items():
        fields[name] = value
    return Response(status, HTTPStatus(status).phrase, fields, body)


def viewer_folder() -> Path | None:
    """Where the page lies: found beside the client package, which is not imported."""
    spec = importlib.util.find_spec("client")
    places = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(places))) / "viewer" if places else None
    return folder if folder and folder.is_dir() else None


class Page:
    """The files of a folder, or of none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def answer(self, path: str, asked: Headers) -> Response:
        """What a GET of this path gets."""
        name = "index.html" if path == "/" else path.removeprefix("/")
        # Only names that the folders list: no path of a client's reaches the disk.
        file = self._files().get(name)
        if file is None:
            return answer(404, b"not found\n")
        # A browser that has the file asks whether it is still the same, and reads it but once.
        now = file.stat()
        tag = f'"{now.st_mtime_ns:x}-{now.st_size:x}"'
        if tag in asked.get_all("If-None-Match"):
            return answer(304, b"", _TYPES[file.suffix], {"ETag": tag})
        return answer(200, file.read_bytes(), _TYPES[file.suffix], {"ETag": tag})

    def _files(self) -> dict[str, Path]:
        """As they are now, by the names that they are asked for."""
        if self.folder is None:
            return {}
        folders = {name: self.folder / name for name in _FOLDERS}
        return {
            name + file.name: file
            for name, folder in folders.items()
            if folder.is_dir()
            for file in folder.iterdir()
            if file.suffix in _TYPES and file.is_file()
        }
