"""Who may come in: tokens, the origins of browsers' pages, addresses to listen on, TLS."""

import hmac
import ipaddress
import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from kfusion.errors import BadOptions
from server.config import ServerConfig


def is_loopback(host: str) -> bool:
    """Whether a name or an address, with or without brackets, is this machine's own."""
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")


def check_exposure(config: ServerConfig) -> None:
    """Raises :class:`~kfusion.errors.BadOptions` for an address that others reach and no token."""
    if not (is_loopback(config.host) or config.token or config.insecure):
        raise BadOptions(
            f"--host {config.host} is reached from other machines; wanted a --token with it "
            "(or --insecure: anyone may use this server)"
        )


def authorized(request: Request, token: str | None) -> bool:
    """Whether a request shows the token, in its header or its query, if one is wanted: an empty
    one is none.
    """
    if not token:
        return True
    headers = request.headers.get_all("Authorization")
    header = headers[0] if len(headers) == 1 else ""  # two do not say which is meant
    given = header.removeprefix("Bearer ") if header.startswith("Bearer ") else ""
    if not given:
        given = next(iter(parse_qs(urlsplit(request.path).query).get("token", [])), "")
    return hmac.compare_digest(given.encode(), token.encode())


def origin_allowed(request: Request, config: ServerConfig) -> bool:
    """Whether the page that asks may open a stream.

    It may where it names no origin, where its origin was allowed by name, where it was served by
    this machine, and where it was served by this server. The last is not believed of a server
    for its own machine: a name that a stranger points at 127.0.0.1 would pass too.
    """
    origins = request.headers.get_all("Origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    (origin,) = origins
    if origin in config.origins:
        return True
    try:
        page = urlsplit(origin)
        host = page.hostname
    except ValueError:
        return False
    if not host or page.scheme not in ("http", "https"):
        return False
    if is_loopback(host):
        return True
    return not is_loopback(config.host) and page.netloc.lower() == _host(request)


def _host(request: Request) -> str:
    hosts = request.headers.get_all("Host")
    return hosts[0].lower() if len(hosts) == 1 else ""


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The context for wss:// and https://, or None without a certificate.

    Raises :class:`~kfusion.errors.BadOptions` for one without the other and for files that
    cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise BadOptions("--tls-cert and --tls-key: one is there; wanted both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BadOptions(
            f"--tls-cert {certificate}, --tls-key {key}: cannot be used ({error}); wanted a PEM "
            "chain and its key without a password"
        ) from None
    return context
