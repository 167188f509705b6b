"""The server: plain HTTP beside the stream on one port, admission, start and stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from kfusion import wire
from kfusion.config import FPS
from kfusion.errors import BadOptions, Busy, MissingExtra, Unauthorized, UnknownSession
from kfusion.runtime import make_engine
from kfusion.system import raise_open_files_limit
from server.admission.access import authorized, check_exposure, origin_allowed, tls
from server.admission.backlog import Doorway
from server.admission.fair_queue import Turns
from server.admission.loop_lag import Lateness
from server.admission.slots import RETRY_S, Places, network_of
from server.config import USUAL, ServerConfig
from server.driver import Driver, Feeder, Link
from server.engine.lanes import Lanes
from server.http import Page, answer, viewer_folder
from server.identity_store import IdentityFiles
from server.logs import event
from server.metrics import Metrics
from server.pictures.queue import Pictures, can_look
from server.session.identities import Identities
from server.session.resume_tokens import ResumeTokens
from server.session.session import Session
from server.session.states import State
from server.transports.websocket import Connection

if TYPE_CHECKING:  # optional, and without it pyzmq and aiortc are not imported
    from server.transports.webrtc import Peers
    from server.transports.zeromq_publish import Publisher
    from server.transports.zeromq_sockets import Doors

log = logging.getLogger("kfusion.server")

BUSY_S: Final = 1.0  # for a newcomer to say that it goes on with a session that has its place
UNSTARTED: Final = 256  # connections beyond those that have a stream, in all ...
UNSTARTED_EACH: Final = 16  # ... and of one address
LAG_S: Final = 0.1  # the event loop's own usual lateness at which no stream is added
DOOR_RATE: Final = 30.0  # newcomers a second then
DOOR_S: Final = 5.0  # at most
HELLO_S: Final = 5.0  # for a newcomer's TLS, before which nothing counts it
DRAIN_S: Final = 7.0  # for streams to be finished and taken once the server stops


def make_peers(config: ServerConfig) -> Peers | None:
    """What answers WebRTC's offers; None where it is not wanted or aiortc is not installed.

    Media come in where the signalling does: a server for this machine alone offers no other
    address. Raises :class:`~kfusion.errors.BadOptions`.
    """
    if not config.webrtc:
        return None
    try:
        from server.transports.webrtc import Ice, Peers
    except ImportError as error:
        log.info("no WebRTC: %s is not installed", error.name)
        return None
    own = {"localhost": ("127.0.0.1",), "": (), "0.0.0.0": (), "::": ()}
    addresses = config.ice_addresses or own.get(config.host, (config.host,))
    return Peers(Ice(addresses, config.ice_servers))


def make_pictures(config: ServerConfig, metrics: Metrics) -> Pictures | None:
    """What finds faces in pictures; None where it is not wanted or not installed."""
    if not config.pictures:
        return None
    if config.face_finder == USUAL and not can_look():
        log.info("no faces from pictures: pip install 'kfusion[face]' adds them")
        return None
    return Pictures(metrics, config.face_finder)


def _kept_faces(config: ServerConfig) -> IdentityFiles | None:
    """Where identities are kept; raises :class:`~kfusion.errors.BadOptions`."""
    if config.identities is None:
        return None
    if not config.token:
        raise BadOptions(
            "--identities keeps the faces of a token's holders (without a token they are their "
            "sessions' own); wanted --token too"
        )
    return IdentityFiles(config.identities, config.token, config.limits.identities)


def _identities(config: ServerConfig, kept: IdentityFiles | None) -> Identities:
    if kept is None:
        return Identities(config.limits.identities)
    known = Identities(config.limits.identities, kept.save)
    known.faces.update(kept.load())
    return known


class App:
    """Everything of one server that outlives a connection."""

    def __init__(self, config: ServerConfig) -> None:
        check_exposure(config)
        self.config = config
        self.tls = tls(config.tls_cert, config.tls_key)
        self.doors = _doors(config)
        self.publisher: Publisher | None = None
        self.metrics = Metrics()
        engine = make_engine(config.engine, config.checkpoint, config.device, config.threads)
        self.model = wire.Model(engine.name, engine.sha256)
        self.engine = Lanes(engine, config.max_batch, self.metrics)
        self.connections: dict[Link, str | None] = {}  # with their networks
        self.drivers: set[Driver] = set()
        self.kept: ResumeTokens[Driver] = ResumeTokens()
        self.feeder = Feeder()
        self.most, self.each = (
            config.max_sessions + UNSTARTED,
            config.max_per_address + UNSTARTED_EACH,
        )
        self.doorway = Doorway(self.most, self.each)
        self.entering: dict[ServerConnection, str | None] = {}  # with their networks
        self.lateness = Lateness()
        self.door = 0.0  # when the next newcomer may come in
        self.stopping = False
        self.empty = asyncio.Event()
        self.kept_faces = _kept_faces(config)
        self.identities = _identities(config, self.kept_faces)  # of the token's holders
        self.pictures: Pictures | None = None  # before it serves
        self.peers: Peers | None = None  # before it serves
        self.page = Page(viewer_folder())
        self.schema = wire.json_schema()

    # Plain HTTP

    async def http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers GET; None lets the WebSocket handshake go on."""
        try:
            path = urlsplit(request.path).path
        except ValueError:
            return answer(404, b"not found\n")
        if path == wire.PATH:
            return await self._stream_asked_for(connection, request)
        pages: dict[str, Callable[[], Response]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": lambda: answer(200, self.figures(), "text/plain; version=0.0.4"),
            f"/v{wire.PROTOCOL}/schema.json": lambda: answer(
                200, self.schema, "application/schema+json"
            ),
        }
        return pages[path]() if path in pages else self.page.answer(path, request.headers)

    async def _stream_asked_for(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        self.doorway.left(connection)
        network = network_of(connection.remote_address[0])
        if self.crowded(network):
            self.metrics.refused.inc()
            return answer(503, b"busy\n", headers={"Retry-After": str(RETRY_S)})
        if not origin_allowed(request, self.config):
            return answer(403, b"streams are not for pages of this origin; see --origin\n")
        self.entering[connection] = network
        try:
            await self._door()
        finally:
            del self.entering[connection]
        return None

    async def _door(self) -> None:
        """While the event loop is late, newcomers come in one by one: each costs as much as a
        second of a stream.
        """
        now = asyncio.get_running_loop().time()
        self.door = max(self.door, now)
        if self.lateness.late():
            self.door += 1 / DOOR_RATE
        await asyncio.sleep(min(DOOR_S, self.door - now))

    def _health(self) -> Response:
        if self.engine.alive:
            return answer(200, b"ok\n")
        return answer(503, b"the inference thread has ended\n")

    def _ready(self) -> Response:
        reason = self._why_not()
        if reason is None:
            return answer(200, b"ready\n")
        return answer(503, f"busy: {reason}\n".encode(), headers={"Retry-After": str(RETRY_S)})

    def figures(self) -> bytes:
        """The metrics as of now, in Prometheus' text format."""
        for driver in self.drivers:
            driver.count()
        metrics, lost = self.metrics, len(self.kept.lost)
        metrics.connections.set(len(self.connections))
        metrics.streams.set(len(self.places.taken) - lost)
        metrics.kept.set(lost)
        metrics.demand.set(self.places.demand)
        metrics.capacity.set(self.engine.capacity.windows_per_s)
        metrics.loop_lag.set(self.lateness.most)
        return metrics.text()

    # Who may come in

    def crowded(self, network: str | None) -> bool:
        """Whether there are too many connections for one more, streams or not."""
        networks = [*self.connections.values(), *self.entering.values()]
        if self.stopping or len(networks) >= self.most:
            return True
        return network is not None and networks.count(network) >= self.each

    def _why_not(self) -> str | None:
        """What speaks against one more stream of the usual hop."""
        if not self.engine.alive:
            return "the inference threads have ended"
        return self.places.why_not(FPS / wire.Start().hop)

    def _strained(self) -> str | None:
        if self.stopping:
            return "the server is stopping"
        usual = self.lateness.usual
        return f"the server is late by {usual * 1000:.0f} ms" if usual > LAG_S else None

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
        """One WebSocket's client from its handshake to its close."""
        address = str(ws.remote_address[0])
        known = authorized(cast(Request, ws.request), self.config.token)
        identities = self.identities if self.config.token else None
        driver = self._enter(address, identities)
        connection = Connection(ws, driver, self.resume, self.turns, self.peers)
        if not known:
            now = asyncio.get_running_loop().time()
            driver.session.fail(Unauthorized("the token is missing or wrong"), now)
        self.connections[connection] = network_of(address)
        try:
            await connection.run()
        finally:
            del self.connections[connection]
            if not self.connections:
                self.empty.set()

    def _enter(self, address: str, identities: Identities | None) -> Driver:
        """A newcomer's session, who is told before long if there is no place."""
        loop = asyncio.get_running_loop()

        def admit(demand: float) -> None:
            try:
                self.places.take(session.name, address, demand)
            except Busy:
                self.metrics.refused.inc()
                raise
            event(log, "stream started", session=session.name, address=address, demand=demand)

        limits = self.config.limits
        name = secrets.token_hex(8)
        session = Session(
            self.model, limits, loop.time(), identities, name, admit,
            publish=self.publisher.tap(name) if self.publisher is not None else None,
            has_webrtc=self.peers is not None, has_faces=self.pictures is not None,
        )  # fmt: skip
        driver = Driver(
            session, self.engine, self.metrics, self.kept, self._ended, self.feeder, self.pictures
        )
        self.drivers.add(driver)
        if (reason := self._why_not()) is not None:
            loop.call_later(BUSY_S, self._turn_away, driver, reason)
        return driver

    def _turn_away(self, driver: Driver, reason: str) -> None:
        """Tells a newcomer that has not said anything yet what it would be told then."""
        if driver.session.state is State.NEW and driver.session.resume_request is None:
            self.metrics.refused.inc()
            driver.session.fail(Busy(reason, RETRY_S), asyncio.get_running_loop().time())
            driver.pump()

    def _ended(self, driver: Driver) -> None:
        """A session is over, for good."""
        if driver not in self.drivers:
            return
        self.drivers.discard(driver)
        session = driver.session
        if not self.places.release(session.name):
            return
        summary = session.summary()
        drift = summary.drift or 0.0
        if session.live and summary.drift is not None:
            self.metrics.drift.observe(drift)
        event(
            log, "stream ended", session=session.name,
            mode=summary.mode, seconds=round(summary.seconds, 3),
            sent=summary.sent, dropped=sum(summary.dropped.values()),
            resumed=summary.resumptions, errors=sum(summary.errors.values()),
            drift=round(drift, 3),
        )  # fmt: skip

    def resume(self, connection: Link, wanted: wire.ResumeFrom) -> Driver:
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
        driver.resumed(connection, wanted)
        event(log, "stream resumed", session=driver.session.name, next=wanted.next)
        return driver

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Server]:
        """Warms up, opens the port, and closes both again."""
        loop = asyncio.get_running_loop()
        raise_open_files_limit(4 * self.most)  # streams, their media, and who stands in the doorway
        self.peers, self.turns = make_peers(self.config), Turns(self.lateness.late)
        self.pictures = make_pictures(self.config, self.metrics)
        await loop.run_in_executor(None, self.engine.start, loop)
        self.places = Places(
            self.config.max_sessions,
            self.config.max_per_address,
            self.engine.capacity,
            self._strained,
        )
        watching = asyncio.create_task(self.lateness.watch())
        try:
            async with (
                self._zeromq(),
                serve(
                    self.stream,
                    self.config.host,
                    self.config.port,
                    ssl=self.tls,
                    ssl_handshake_timeout=HELLO_S if self.tls else None,
                    create_connection=self.doorway.visitor(),
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
                ) as server,
            ):
                yield server
                await self._drain(server)
        finally:
            watching.cancel()
            await loop.run_in_executor(None, self.engine.stop)
            if self.pictures is not None:
                await self.pictures.close()
            if self.kept_faces is not None:
                await loop.run_in_executor(None, self.kept_faces.close)

    @asynccontextmanager
    async def _zeromq(self) -> AsyncGenerator[None]:
        """Opens what was asked for of ZeroMQ, and closes it."""
        if self.doors is None:
            yield
            return
        from server.transports.zeromq_publish import Publisher

        try:
            self.publisher = Publisher(self.doors, self.metrics)
            try:
                yield
            finally:
                self.publisher.close()
        finally:
            await asyncio.get_running_loop().run_in_executor(None, self.doors.close)

    async def _drain(self, server: Server) -> None:
        """Finishes the streams: what was received is answered, their clients are told, and after
        a while those that do not listen are left.
        """
        self.stopping = True
        server.close(close_connections=False)
        event(log, "stopping", connections=len(self.connections))
        for driver in list(self.drivers):
            driver.stop()
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.connections:
                    self.empty.clear()
                    await self.empty.wait()
        except TimeoutError:
            event(log, "left unfinished", connections=len(self.connections))
            for connection in self.connections:
                connection.abort()
        self.doorway.close()


def _doors(config: ServerConfig) -> Doors | None:
    """What is wanted of ZeroMQ, checked, or None."""
    if not (config.zmq or config.zmq_key or config.zmq_clients):
        return None
    try:
        from server.transports.zeromq_sockets import Doors
    except ImportError:
        raise MissingExtra("pyzmq is not installed; pip install 'kfusion[server]'") from None
    return Doors(config)


def _quiet_logger() -> logging.Logger:
    """Connections that come and go are no news; what goes wrong is."""
    logger = logging.getLogger("kfusion.websockets")
    logger.setLevel(logging.WARNING)
    return logger
