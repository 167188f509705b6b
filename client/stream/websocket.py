"""A stream over a WebSocket, through the proxy that the environment names."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from client.stream.transport import Closed, Message
from kfusion import wire
from kfusion.errors import ConnectionFailed, MissingExtra

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


def stream_url(url: str) -> str:
    """A server's URL with the protocol's path, if it has none of its own.

    Raises :class:`~kfusion.errors.ConnectionFailed` for anything but a ws:// or wss:// URL.
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
        self._connection_closed = ConnectionClosed

    async def send(self, message: Message) -> None:
        try:
            await self.ws.send(message)
        except self._connection_closed as error:
            raise self._closed(error.rcvd) from None

    async def receive(self) -> Message:
        try:
            return await self.ws.recv()
        except self._connection_closed as error:
            raise self._closed(error.rcvd) from None

    def _closed(self, received: object) -> Closed:
        if received is None:
            return Closed(1006, "without a close frame")
        return Closed(self.ws.close_code or 1006, self.ws.close_reason or "")

    async def close(self) -> None:
        await self.ws.close()

    def abort(self) -> None:
        self.ws.transport.abort()


def redacted_url(url: str) -> str:
    """A URL for messages and files: without user, password and query, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def open_websocket(
    url: str, *, token: str | None, pings: bool, open_timeout: float
) -> WebSocketTransport:
    """Connects to a server.

    Without ``pings``, an unanswered ping closes nothing: a file's server may read later.

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
    where = stream_url(url)
    proxy, named = proxy_for(where), redacted_url(where)
    way = named if proxy is None else f"{named} through the proxy {redacted_proxy(proxy)}"
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


def proxy_for(url: str) -> str | None:
    """The proxy for a ws:// or wss:// URL; None for a direct connection.

    The order is that of the websockets package: WebSockets (``ws_proxy``, ``wss_proxy``), SOCKS,
    web. Other than there, loopback addresses need no ``no_proxy``.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if is_loopback(host) or proxy_bypass(f"{host}:{port}"):
        return None
    proxies = getproxies()
    for kind in (parts.scheme, "socks", "https", "http")[: 3 if parts.scheme == "wss" else 4]:
        if kind in proxies:
            # macOS and Windows report a SOCKS proxy as http://.
            proxy = proxies[kind]
            return proxy.replace("http://", "socks5h://") if kind == "socks" else proxy
    return None


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def redacted_proxy(proxy: str) -> str:
    """A proxy's URL without its user and password."""
    scheme, colon, rest = proxy.rpartition("://")
    return scheme + colon + rest.rpartition("@")[2]
