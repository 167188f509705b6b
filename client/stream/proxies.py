"""Which proxy a stream goes through: what the environment or the system says, but for loopback."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_of(where: str) -> str | None:
    """The proxy on the way to a ws:// or wss:// URL; None, and there is none.

    One for WebSockets (``ws_proxy``, ``wss_proxy``) comes before one for all, and that before one
    for the web, as the websockets package has it, which would ask one for this machine too.
    """
    parts = urlsplit(where)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if is_loopback(host) or proxy_bypass(f"{host}:{port}"):
        return None
    said = getproxies()
    for kind in (parts.scheme, "socks", "https", "http")[: 3 if parts.scheme == "wss" else 4]:
        if kind in said:
            # macOS and Windows tell of a SOCKS proxy as http://.
            return said[kind].replace("http://", "socks5h://") if kind == "socks" else said[kind]
    return None


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(proxy: str) -> str:
    """A proxy's URL without the name and the password that may be in it."""
    scheme, colon, rest = proxy.rpartition("://")
    return scheme + colon + rest.rpartition("@")[2]
