"""The server: plain HTTP beside the stream on one port, admission, start and stop."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from kfusion import wire
from kfusion.errors import Busy, Unauthorized
from kfusion.runtime import make_engine
from server.access import authorized, check_exposure, origin_allowed, tls
from server.config import ServerConfig
from server.engine import EngineThread
from server.identities import Identities
from server.metrics import Metrics
from server.session import Session
from server.websocket import Connection

RETRY_S: Final = 5
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
}


def viewer_folder() -> Path | None:
    """Where the page lies: found beside the client package, which is not imported."""
    spec = importlib.util.find_spec("client")
    places = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(places))) / "viewer" if places else None
    return folder if folder and folder.is_dir() else None


class App:
    """Everything of one server that outlives a connection."""

    def __init__(self, config: ServerConfig) -> None:
        check_exposure(config)
        self.config = config
        self.tls = tls(config.tls_cert, config.tls_key)
        self.metrics = Metrics()
        engine = make_engine(config.engine, config.checkpoint, config.device, config.threads)
        self.model = wire.Model(engine.name, engine.sha256)
        self.engine = EngineThread(engine, config.max_batch, self.metrics)
        self.connections = 0
        self.identities = Identities(config.limits.identities)  # of the token's holders
        self.viewer = viewer_folder()
        self.schema = wire.json_schema()

    # Plain HTTP

    def http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers GET; None lets the WebSocket handshake go on."""
        try:
            path = urlsplit(request.path).path
        except ValueError:
            return _answer(404, b"not found\n")
        if path == wire.PATH:
            if origin_allowed(request, self.config):
                return None
            return _answer(403, b"streams are not for pages of this origin; see --origin\n")
        pages: dict[str, Callable[[], Response]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": lambda: _answer(200, self.metrics.text(), "text/plain; version=0.0.4"),
            f"/v{wire.PROTOCOL}/schema.json": lambda: _answer(
                200, self.schema, "application/schema+json"
            ),
        }
        return pages[path]() if path in pages else self._file(path)

    def _health(self) -> Response:
        if self.engine.alive:
            return _answer(200, b"ok\n")
        return _answer(503, b"the inference thread has ended\n")

    def _ready(self) -> Response:
        if self._free():
            return _answer(200, b"ready\n")
        return _answer(503, b"busy\n", headers={"Retry-After": str(RETRY_S)})

    def _file(self, path: str) -> Response:
        name = "index.html" if path == "/" else path.removeprefix("/")
        if self.viewer is not None:
            # Only names that the folder lists: no path of a client's reaches the disk.
            files = {p.name: p for p in self.viewer.iterdir() if p.suffix in _TYPES}
            if name in files:
                body = files[name].read_bytes()
                return _answer(200, body, _TYPES[files[name].suffix])
        return _answer(404, b"not found\n")

    def _free(self) -> bool:
        return self.engine.alive and self.connections < self.config.max_sessions

    # Streams

    def subprotocol(
        self, connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        if not offered:
            return None
        if wire.SUBPROTOCOL in offered:
            return Subprotocol(wire.SUBPROTOCOL)
        raise NegotiationError(f"subprotocol not offered; wanted {wire.SUBPROTOCOL}")

    async def stream(self, ws: ServerConnection) -> None:
        """One client from its handshake to its close."""
        now = asyncio.get_running_loop().time()
        identities = self.identities if self.config.token else None
        session = Session(self.model, self.config.limits, now, identities)
        connection = Connection(ws, session, self.engine, self.metrics)
        refusal = self._refusal(cast(Request, ws.request))
        if refusal is not None:
            session.fail(refusal, now)
            await connection.run()
            return
        self.connections += 1
        self.metrics.streams.inc()
        try:
            await connection.run()
        finally:
            self.connections -= 1
            self.metrics.streams.dec()

    def _refusal(self, request: Request) -> Unauthorized | Busy | None:
        if not authorized(request, self.config.token):
            return Unauthorized("the token is missing or wrong")
        if not self._free():
            return Busy(f"all {self.config.max_sessions} streams are taken", RETRY_S)
        return None

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Server]:
        """Warms up, opens the port, and closes both again."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.engine.start, loop)
        try:
            async with serve(
                self.stream,
                self.config.host,
                self.config.port,
                ssl=self.tls,
                process_request=self.http,
                select_subprotocol=self.subprotocol,
                subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
                compression=None,  # frames do not compress, and it costs latency
                max_size=wire.MESSAGE_BYTES,
                max_queue=4,
                ping_interval=None,  # Connection pings: it knows when it is not reading
                close_timeout=5,
                server_header="kfusion",
                logger=_quiet_logger(),
            ) as server:
                yield server
        finally:
            await loop.run_in_executor(None, self.engine.stop)


def _quiet_logger() -> logging.Logger:
    """Connections that come and go are no news; what goes wrong is."""
    logger = logging.getLogger("kfusion.websockets")
    logger.setLevel(logging.WARNING)
    return logger


def _answer(
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
