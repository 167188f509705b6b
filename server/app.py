"""Builds the parts of a server, serves, and drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import NegotiationError
from websockets.http11 import Request
from websockets.typing import Subprotocol

from kfusion import wire
from kfusion.engines import make_engine
from kfusion.errors import BadOptions, MissingExtra
from kfusion.system import raise_open_files_limit
from server.admission.access import authorized, check_exposure, tls_context
from server.admission.backlog import Backlog
from server.admission.fair_queue import FairQueue
from server.admission.loop_lag import LoopLag
from server.config import FACE_ALIGNMENT, ServerConfig
from server.engine.inference_pool import InferencePool
from server.http import HttpRoutes
from server.identity_store import IdentityStore
from server.logs import event
from server.metrics import Metrics
from server.pictures.queue import FaceFinderQueue, face_alignment_installed
from server.registry import Registry
from server.session.identities import Identities
from server.transports.websocket import WebSocketConnection

if TYPE_CHECKING:  # optional, and without it pyzmq and aiortc are not imported
    from server.transports.webrtc import PeerFactory
    from server.transports.zeromq_endpoint import ZeroMQEndpoint
    from server.transports.zeromq_publisher import Publisher

log = logging.getLogger("kfusion.server")


def make_peer_factory(config: ServerConfig) -> PeerFactory | None:
    """What answers WebRTC's offers; None where it is off or aiortc is not installed.

    Media come in where the signalling does: a server for this machine alone offers no other
    address. Raises :class:`~kfusion.errors.BadOptions`.
    """
    if not config.webrtc:
        return None
    try:
        from server.transports.webrtc import PeerFactory
    except ImportError as error:
        log.info("no WebRTC: %s is not installed", error.name)
        return None
    own = {"localhost": ("127.0.0.1",), "": (), "0.0.0.0": (), "::": ()}
    addresses = config.ice_addresses or own.get(config.host, (config.host,))
    return PeerFactory(addresses, config.ice_servers)


def make_face_finder(config: ServerConfig, metrics: Metrics) -> FaceFinderQueue | None:
    """What finds faces in pictures; None where it is off or not installed."""
    if not config.pictures:
        return None
    if config.face_finder == FACE_ALIGNMENT and not face_alignment_installed():
        log.info("no faces from pictures: pip install 'kfusion[face]' adds them")
        return None
    return FaceFinderQueue(metrics, config.face_finder)


def make_identity_store(config: ServerConfig) -> IdentityStore | None:
    """Raises :class:`~kfusion.errors.BadOptions`."""
    if config.identities is None:
        return None
    if not config.token:
        raise BadOptions(
            "--identities keeps the faces of a token's holders (without a token they are their "
            "sessions' own); wanted --token too"
        )
    return IdentityStore(config.identities, config.token, config.limits.identities)


def make_zeromq_endpoint(config: ServerConfig) -> ZeroMQEndpoint | None:
    """Raises :class:`~kfusion.errors.BadOptions`."""
    if not (config.zmq or config.zmq_key or config.zmq_clients):
        return None
    try:
        from server.transports.zeromq_endpoint import ZeroMQEndpoint
    except ImportError:
        raise MissingExtra("pyzmq is not installed; pip install 'kfusion[server]'") from None
    return ZeroMQEndpoint(config)


class App:
    """One server. ``registry``, ``http`` and what needs an event loop are there while it serves."""

    registry: Registry
    http: HttpRoutes
    fair_queue: FairQueue
    peers: PeerFactory | None

    def __init__(self, config: ServerConfig) -> None:
        check_exposure(config)
        self.config = config
        self.tls = tls_context(config.tls_cert, config.tls_key)
        self.zeromq = make_zeromq_endpoint(config)
        self.publisher: Publisher | None = None
        self.metrics = Metrics()
        engine = make_engine(config.engine, config.checkpoint, config.device, config.threads)
        self.engine = InferencePool(engine, config.max_batch, self.metrics)
        self.lag = LoopLag()
        self.backlog = Backlog(
            config.max_connections,
            config.max_connections_per_address,
            config.bounds.pending_grace_s,
        )
        self.store = make_identity_store(config)

    async def stream(self, ws: ServerConnection) -> None:
        """One WebSocket from its handshake to its close."""
        connection = WebSocketConnection(
            ws, self.registry, self.fair_queue, self.peers, self.config.bounds
        )
        valid = authorized(cast(Request, ws.request), self.config.token)
        address = str(ws.remote_address[0])
        with self.registry.connected(connection, address, authorized=valid):
            await connection.run()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Server]:
        """Warms up, opens the port, and closes both again."""
        loop, config = asyncio.get_running_loop(), self.config
        raise_open_files_limit(4 * config.max_connections)  # streams, their media, and the backlog
        self.peers, self.fair_queue = make_peer_factory(config), FairQueue(self.lag.high)
        faces = make_face_finder(config, self.metrics)
        identities = Identities(config.limits.identities, self.store and self.store.save)
        identities.faces.update(self.store.faces if self.store else {})
        await loop.run_in_executor(None, self.engine.start, loop)
        self.registry = Registry(
            config, self.engine, self.metrics, self.lag, faces, identities,
            has_webrtc=self.peers is not None,
        )  # fmt: skip
        self.http = HttpRoutes(self.registry, self.backlog)
        measuring = asyncio.create_task(self.lag.measure())
        try:
            async with self._publishing(), self._listening() as server:
                yield server
                await self._drain(server)
        finally:
            measuring.cancel()
            await loop.run_in_executor(None, self.engine.stop)
            if faces is not None:
                await faces.close()
            if self.store is not None:
                await loop.run_in_executor(None, self.store.close)

    def _listening(self) -> AbstractAsyncContextManager[Server]:
        return serve(
            self.stream,
            self.config.host,
            self.config.port,
            ssl=self.tls,
            ssl_handshake_timeout=self.config.bounds.tls_handshake_s if self.tls else None,
            create_connection=self.backlog.connection_factory(),
            process_request=self.http.handle,
            select_subprotocol=_subprotocol,
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            compression=None,  # frames do not compress, and it costs latency
            max_size=wire.MESSAGE_BYTES,
            max_queue=4,
            ping_interval=None,  # WebSocketConnection pings: it knows when it is not reading
            close_timeout=5,
            server_header="kfusion",
            logger=logging.getLogger("kfusion.websockets"),
        )

    @asynccontextmanager
    async def _publishing(self) -> AsyncGenerator[None]:
        """Publishes frames on ZeroMQ, where the configuration has an address for it."""
        if self.zeromq is None:
            yield
            return
        from server.transports.zeromq_publisher import Publisher

        try:
            self.publisher = Publisher(self.zeromq, self.metrics, self.config.bounds)
            self.registry.publish = self.publisher.for_session
            try:
                yield
            finally:
                self.publisher.close()
        finally:
            await asyncio.get_running_loop().run_in_executor(None, self.zeromq.close)

    async def _drain(self, server: Server) -> None:
        """Ends all streams: computes and sends what was received, then aborts the connections that
        are still open after a while.
        """
        registry = self.registry
        server.close(close_connections=False)
        event(log, "stopping", connections=len(registry.connections))
        registry.stop()
        try:
            async with asyncio.timeout(self.config.bounds.drain_s):
                while registry.connections:
                    registry.empty.clear()
                    await registry.empty.wait()
        except TimeoutError:
            event(log, "left unfinished", connections=len(registry.connections))
            for connection in registry.connections:
                connection.abort()
        self.backlog.close()


def _subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    if wire.SUBPROTOCOL in offered:
        return Subprotocol(wire.SUBPROTOCOL)
    raise NegotiationError(f"subprotocol not offered; wanted {wire.SUBPROTOCOL}")
