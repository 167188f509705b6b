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
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from kfusion import wire
from kfusion.errors import Busy, Unauthorized, UnknownSession, WireError
from kfusion.runtime import make_engine
from server.access import authorized, check_exposure, origin_allowed, tls
from server.config import ServerConfig
from server.driver import Driver
from server.engine import EngineThread
from server.identities import Identities
from server.kept import Kept
from server.metrics import Metrics
from server.session import Session
from server.websocket import Connection

RETRY_S: Final = 5
HALF_OPEN_S: Final = 1.0  # for a newcomer without a place to say which place is its own
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
        self.seated: set[Connection] = set()  # those that take one of the places
        self.kept: Kept[Driver] = Kept(config.max_sessions)
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
        return self.engine.alive and len(self.seated) < self.config.max_sessions

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
        driver = Driver(session, self.engine, self.metrics, self.kept)
        connection = Connection(ws, driver, self._resume)
        first = None
        if not authorized(cast(Request, ws.request), self.config.token):
            session.fail(Unauthorized("the token is missing or wrong"), now)
        elif self._free():
            self._seat(connection)
        else:
            first = await self._half_open(ws)
            if first is None:
                session.fail(self._busy(), now)
        try:
            await connection.run(first)
        finally:
            self._unseat(connection)

    def _seat(self, connection: Connection) -> None:
        self.seated.add(connection)
        self.metrics.streams.set(len(self.seated))

    def _unseat(self, connection: Connection) -> None:
        self.seated.discard(connection)
        self.metrics.streams.set(len(self.seated))

    def _busy(self) -> Busy:
        return Busy(f"all {self.config.max_sessions} streams are taken", RETRY_S)

    async def _half_open(self, ws: ServerConnection) -> str | None:
        """A newcomer's first message, if its own old connection still holds one of the places."""
        try:
            async with asyncio.timeout(HALF_OPEN_S):
                message = await ws.recv()
            if isinstance(message, bytes):
                return None
            asked = wire.parse_client(message)
        except (TimeoutError, ConnectionClosed, WireError):
            return None
        if not isinstance(asked, wire.Start) or asked.resume is wire.UNSET:
            return None
        driver = self.kept.find(asked.resume.token)
        return message if driver is not None and driver.link is not None else None

    def _resume(self, connection: Connection, wanted: wire.ResumeFrom) -> Driver:
        """Gives a connection the session that its client had.

        Raises :class:`~kfusion.errors.UnknownSession`, and :class:`~kfusion.errors.BadMessage` for
        a wrong ``next``; the session is kept as it was.
        """
        driver = self.kept.find(wanted.token)
        if driver is None:
            raise UnknownSession(
                "start.resume.token is of no session that is kept (each token serves once, and "
                f"lost sessions are kept {self.config.limits.resume_s:g} s); wanted a new start"
            )
        before = driver.resumed(connection, wanted)
        if isinstance(before, Connection):
            self._unseat(before)
        self._seat(connection)
        return driver

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
