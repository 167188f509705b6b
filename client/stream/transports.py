"""What carries a stream's messages. A transport can be swapped: see also memory.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from client.stream import proxies
from kfusion import wire
from kfusion.errors import ConnectionFailed, MissingExtra

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class Closed(Exception):  # a state that is told, not always a fault
    """The connection is closed: WebSocket close code and reason."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code, self.reason = code, reason


class Transport(Protocol):
    """Text and binary messages, both ways, in order. Raises :class:`Closed` once it is."""

    async def send(self, message: str | bytes) -> None:
        """Returns when there is room for more."""
        ...

    async def receive(self) -> str | bytes: ...

    async def close(self) -> None: ...

    def abort(self) -> None:
        """Ends it at once, without a word to the other side."""
        ...


Opener = Callable[[], Awaitable[Transport]]
"""Opens a connection, the first one and each that goes on after a loss."""


async def discard(transport: Transport) -> None:
    """Leaves nothing of a connection; the other side sees it lost, not left."""
    transport.abort()
    await transport.close()


def address(url: str) -> str:
    """A server's URL as the stream's, with the protocol's path where it has none.

    Raises :class:`~kfusion.errors.ConnectionFailed` for what is no ws:// or wss:// URL.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname)
        _ = parts.port  # raises for what is no port, and this for what is no name
        _ = (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable:
        raise ConnectionFailed(f"{url!r} is no address; wanted one like ws://127.0.0.1:8765")
    path = parts.path if parts.path.strip("/") else wire.PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


class WebSocketTransport:
    """A stream's messages over a WebSocket."""

    def __init__(self, ws: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        self.ws = ws
        self._closed = ConnectionClosed

    async def send(self, message: str | bytes) -> None:
        try:
            await self.ws.send(message)
        except self._closed as error:
            raise self._why(error.rcvd) from None

    async def receive(self) -> str | bytes:
        try:
            return await self.ws.recv()
        except self._closed as error:
            raise self._why(error.rcvd) from None

    def _why(self, said: object) -> Closed:
        if said is None:
            return Closed(1006, "without a word")
        return Closed(self.ws.close_code or 1006, self.ws.close_reason or "")

    async def close(self) -> None:
        await self.ws.close()

    def abort(self) -> None:
        self.ws.transport.abort()


def shown(url: str) -> str:
    """A stream's URL as it may be told and written down: without name, password and query, where a
    token may be.
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def open_websocket(
    url: str, *, token: str | None, pings: bool, open_timeout: float
) -> WebSocketTransport:
    """Connects to a server. ``pings`` off: a file's server answers them only when it reads.

    Raises :class:`~kfusion.errors.ConnectionFailed`, saying why, and
    :class:`~kfusion.errors.MissingExtra` without the websockets package.
    """
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import (
            InvalidHandshake,
            InvalidProxy,
            InvalidStatus,
            InvalidURI,
            ProxyError,
        )
        from websockets.typing import Subprotocol
    except ImportError:
        raise MissingExtra(
            "the websockets package is not installed; pip install 'kfusion[client]'"
        ) from None
    where = address(url)
    proxy, named = proxies.proxy_of(where), shown(where)
    way = named if proxy is None else f"{named} through the proxy {proxies.shown(proxy)}"
    try:
        ws = await connect(
            where,
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,  # PCM and frames do not compress, and it costs latency
            open_timeout=open_timeout,
            ping_timeout=20.0 if pings else None,
            max_size=wire.MESSAGE_BYTES,
            close_timeout=2.0,
            proxy=proxy,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise ConnectionFailed(f"{named} answered HTTP {status}; wanted a KFusion stream") from None
    except (InvalidProxy, ProxyError, ImportError, ValueError) as error:
        if proxy is None:
            raise
        reason = error.msg if isinstance(error, InvalidProxy) else error
        raise ConnectionFailed(
            f"cannot connect to {way} ({reason}); wanted one like http://HOST:PORT that leads "
            "there, or the host in the environment's no_proxy"
        ) from None
    except (InvalidHandshake, InvalidURI) as error:
        raise ConnectionFailed(f"{way} is no KFusion stream ({error})") from None
    except TimeoutError:
        raise ConnectionFailed(f"{way} did not answer within {open_timeout:g} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionFailed(f"cannot connect to {way} ({reason}); is it running?") from None
    return WebSocketTransport(ws)
