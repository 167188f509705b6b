"""Who may come in: tokens, origins, addresses, TLS."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request
from websockets.typing import Origin

from kfusion import wire
from kfusion.errors import BadOptions
from server.admission.access import (
    authorized,
    check_exposure,
    is_loopback,
    origin_allowed,
    tls_context,
)
from server.config import Bounds, ServerConfig
from server.http import Page, viewer_folder
from tests.conftest import RunningServer, eventually, start_server, stop_server
from tests.system.raw_client import running_app

ROOT = Path(__file__).resolve().parents[2]
HERE = ServerConfig()
ABROAD = ServerConfig(host="0.0.0.0", token="sesame")


def request(*headers: tuple[str, str], path: str = wire.PATH) -> Request:
    return Request(path, Headers(headers))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost",
                                  "LOCALHOST.", "page.localhost"])  # fmt: skip
def test_these_are_this_machine(host: str) -> None:
    assert is_loopback(host)
    check_exposure(ServerConfig(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "",
                                  "localhost.example.org", "127.0.0.1.example.org"])  # fmt: skip
def test_others_are_listened_for_only_with_a_token_or_when_told_so(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(BadOptions, match="wanted a --token"):
        check_exposure(ServerConfig(host=host))
    check_exposure(ServerConfig(host=host, token="sesame"))
    check_exposure(ServerConfig(host=host, insecure=True))


@pytest.mark.parametrize(
    ("origin", "host", "here", "abroad"),
    [
        ("http://127.0.0.1:8765", "127.0.0.1:8765", True, True),
        ("http://localhost:3000", "127.0.0.1:8765", True, True),
        ("http://[::1]:8765", "[::1]:8765", True, True),
        # Served by this server, under its name. A name that a stranger points at 127.0.0.1 looks
        # the same, which is why a server for its own machine does not believe it.
        ("https://faces.example.org", "faces.example.org", False, True),
        ("https://FACES.example.org:8765", "faces.example.org:8765", False, True),
        ("https://faces.example.org:8765", "faces.example.org", False, False),
        ("https://elsewhere.org", "127.0.0.1:8765", False, False),
        ("http://localhost.evil.org", "127.0.0.1:8765", False, False),
        ("null", "127.0.0.1:8765", False, False),
        ("", "127.0.0.1:8765", False, False),
        ("http://[::1", "127.0.0.1:8765", False, False),
        ("chrome-extension://abc", "abc", False, False),
    ],
)
def test_a_page_opens_streams_only_from_where_it_should(
    origin: str, host: str, here: bool, abroad: bool
) -> None:
    asked = request(("Origin", origin), ("Host", host))
    assert origin_allowed(asked, HERE) is here
    assert origin_allowed(asked, ABROAD) is abroad


def test_engines_name_no_origin_and_named_ones_may_be_let_in() -> None:
    assert origin_allowed(request(("Host", "x")), HERE)
    asked = request(("Origin", "https://game.example"), ("Host", "x"))
    assert not origin_allowed(asked, HERE)
    assert origin_allowed(asked, ServerConfig(origins=("https://game.example",)))
    assert origin_allowed(request(("Origin", "null")), ServerConfig(origins=("null",)))
    twice = request(("Origin", "http://localhost"), ("Origin", "https://game.example"))
    assert not origin_allowed(twice, HERE)


def test_a_token_is_taken_from_the_header_or_the_query() -> None:
    assert authorized(request(), None)
    for asked in (
        request(("Authorization", "Bearer sesame")),
        request(path=f"{wire.PATH}?token=sesame"),
    ):
        assert authorized(asked, "sesame")
        assert not authorized(asked, "sesame ") and not authorized(asked, "Sesame")
    assert not authorized(request(("Authorization", "Basic sesame")), "sesame")
    assert not authorized(request(path=f"{wire.PATH}?token=s%C3%A9same"), "sesame")
    assert not authorized(request(), "sesame")


@pytest.mark.asyncio
async def test_a_strangers_page_is_refused_at_the_handshake(
    synthetic_server: RunningServer,
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(synthetic_server.url, origin=Origin("https://elsewhere.org")):
            pass
    response = refused.value.response
    assert response.status_code == 403 and b"--origin" in (response.body or b"")
    own = Origin(f"http://127.0.0.1:{synthetic_server.port}")
    async with connect(synthetic_server.url, origin=own) as ws:
        await ws.send('{"type":"start"}')
        assert isinstance(wire.parse_server(str(await ws.recv())), wire.Ready)


@pytest.mark.asyncio
async def test_a_token_given_twice_is_none_and_leaves_nothing_behind() -> None:
    async with running_app(token="sesame") as (app, port):
        twice = [("Authorization", "Bearer sesame"), ("Authorization", "Bearer other")]
        async with connect(f"ws://127.0.0.1:{port}{wire.PATH}", additional_headers=twice) as ws:
            answer = wire.parse_server(str(await ws.recv()))
            assert isinstance(answer, wire.Error) and answer.code == "unauthorized"
            await ws.wait_closed()
            assert ws.close_code == 1008
        await eventually(lambda: not app.registry.drivers and not app.registry.connections)


def test_an_empty_token_is_none() -> None:
    shown = request(("Authorization", "Bearer mine"))
    assert authorized(shown, "") and authorized(shown, None) and authorized(request(), "")


def test_a_header_that_comes_twice_is_read() -> None:
    headers = Headers([("If-None-Match", '"a"'), ("If-None-Match", '"b"')])
    assert Page(viewer_folder()).response("/", headers).status_code == 200
    twice = request(("Authorization", "Bearer a"), ("Authorization", "Bearer a"))
    assert not authorized(twice, "a")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(key), "-out", str(chain)],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs openssl: install the package openssl")
    return chain, key


@pytest.mark.asyncio
async def test_a_connection_that_never_begins_tls_is_closed(
    certificate: tuple[Path, Path],
) -> None:
    chain, key = certificate
    bounds = Bounds(tls_handshake_s=0.5)
    async with running_app(tls_cert=chain, tls_key=key, bounds=bounds) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.asyncio
async def test_with_a_certificate_streams_are_wss(certificate: tuple[Path, Path]) -> None:
    chain, key = certificate
    server = start_server("--engine", "synthetic", "--tls-cert", str(chain), "--tls-key", str(key))
    try:
        assert f"open https://127.0.0.1:{server.port}/" in "".join(server.lines)
        trust = ssl.create_default_context(cafile=str(chain))
        async with connect(server.url.replace("ws:", "wss:"), ssl=trust) as ws:
            await ws.send('{"type":"start"}')
            assert isinstance(wire.parse_server(str(await ws.recv())), wire.Ready)
    finally:
        assert stop_server(server) == 0


def test_certificates_that_cannot_be_used_are_told(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    chain, key = certificate
    assert tls_context(None, None) is None and tls_context(chain, key) is not None
    with pytest.raises(BadOptions, match="wanted both"):
        tls_context(chain, None)
    with pytest.raises(BadOptions, match="cannot be used"):
        tls_context(tmp_path / "none.pem", key)
    with pytest.raises(BadOptions, match="cannot be used"):
        tls_context(key, chain)
