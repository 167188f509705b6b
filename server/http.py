"""Plain HTTP beside the stream: health, metrics, the schema, the page's files, and which requests
may open a WebSocket.
"""

import asyncio
import importlib.util
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from kfusion import wire
from server.admission.access import origin_allowed
from server.admission.backlog import Backlog
from server.admission.slots import RETRY_S, network_of
from server.admission.token_bucket import TokenBucket
from server.registry import Registry

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


class HttpRoutes:
    """Answers the requests of one server; for a running event loop."""

    def __init__(self, registry: Registry, backlog: Backlog) -> None:
        self.registry, self.backlog = registry, backlog
        self.bounds = registry.config.bounds
        self.page = Page(viewer_folder())
        self.schema = wire.json_schema()
        now = asyncio.get_running_loop().time()
        self.handshakes = TokenBucket(self.bounds.handshakes_per_s, 0.0, now)
        self.delayed: dict[ServerConnection, str | None] = {}
        """Connections whose handshake is delayed, with their networks."""

    async def handle(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers GET; None lets the WebSocket handshake go on."""
        try:
            path = urlsplit(request.path).path
        except ValueError:
            return response(404, b"not found\n")
        if path == wire.PATH:
            return await self._stream(connection, request)
        routes: dict[str, Callable[[], Response]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": lambda: response(200, self.registry.figures(), "text/plain; version=0.0.4"),
            f"/v{wire.PROTOCOL}/schema.json": lambda: response(
                200, self.schema, "application/schema+json"
            ),
        }
        return routes[path]() if path in routes else self.page.response(path, request.headers)

    async def _stream(self, connection: ServerConnection, request: Request) -> Response | None:
        self.backlog.remove(connection)
        network = network_of(connection.remote_address[0])
        if self.crowded(network):
            self.registry.metrics.refused.inc()
            return response(503, b"busy\n", headers={"Retry-After": str(RETRY_S)})
        if not origin_allowed(request, self.registry.config):
            return response(403, b"streams are not for pages of this origin; see --origin\n")
        self.delayed[connection] = network
        try:
            # While the event loop lags: each takes as much of its time as a second of a stream.
            now = asyncio.get_running_loop().time()
            delay = self.handshakes.spend(float(self.registry.lag.high()), now)
            await asyncio.sleep(min(self.bounds.handshake_wait_s, delay))
        finally:
            del self.delayed[connection]
        return None

    def crowded(self, network: str | None) -> bool:
        """Whether there are too many connections for one more, with streams or without."""
        registry, config = self.registry, self.registry.config
        networks = [*registry.connections.values(), *self.delayed.values()]
        if registry.stopping or len(networks) >= config.max_connections:
            return True
        return network is not None and networks.count(network) >= config.max_connections_per_address

    def _health(self) -> Response:
        if self.registry.engine.alive:
            return response(200, b"ok\n")
        return response(503, b"the inference thread has ended\n")

    def _ready(self) -> Response:
        reason = self.registry.refusal()
        if reason is None:
            return response(200, b"ready\n")
        return response(503, f"busy: {reason}\n".encode(), headers={"Retry-After": str(RETRY_S)})


def response(
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

    def response(self, path: str, headers: Headers) -> Response:
        """Answers a GET of this path."""
        name = "index.html" if path == "/" else path.removeprefix("/")
        # Only names that the folders list: no path of a client's reaches the disk.
        file = self._files().get(name)
        if file is None:
            return response(404, b"not found\n")
        # A browser that has the file asks whether it is still the same, and reads it but once.
        stat = file.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        if tag in headers.get_all("If-None-Match"):
            return response(304, b"", _TYPES[file.suffix], {"ETag": tag})
        return response(200, file.read_bytes(), _TYPES[file.suffix], {"ETag": tag})

    def _files(self) -> dict[str, Path]:
        """The files of now by their paths in URLs."""
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
