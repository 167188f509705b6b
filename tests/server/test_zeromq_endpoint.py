"""The ZeroMQ endpoint: keys, addresses, and options that cannot be used."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils.monitor import recv_monitor_message

from kfusion.errors import BadOptions
from server.config import ServerConfig
from server.transports.zeromq_endpoint import ZeroMQEndpoint
from tests.server.test_zeromq_publisher import (
    ANY_PORT,
    Subscriber,
    publisher_of,
    publishing,
    subscribed,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """server and two clients, the first of which is let in."""
    (tmp_path / "clients").mkdir()
    for name in ("server", "known", "unknown"):
        create_certificates(tmp_path, name)
    (tmp_path / "known.key").rename(tmp_path / "clients" / "known.key")
    return tmp_path


async def handshake(subscriber: Subscriber) -> int:
    """How it ended, as its monitor tells."""
    monitor = subscriber.socket.get_monitor_socket()
    try:
        subscriber.to("x")
        async with asyncio.timeout(20):
            while True:
                event = (await recv_monitor_message(monitor))["event"]
                if event & (
                    zmq.EVENT_HANDSHAKE_SUCCEEDED
                    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
                    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                ):
                    return int(event)
    finally:
        subscriber.socket.disable_monitor()
        monitor.close()


@pytest.mark.asyncio
async def test_with_keys_only_those_who_have_them_are_let_in(keys: Path) -> None:
    config = {"zmq_key": keys / "server.key_secret", "zmq_clients": keys / "clients"}
    async with publishing(**config) as (app, _, endpoint, made):
        server, _ = load_certificate(keys / "server.key")

        def subscriber(serverkey: bytes | None, name: str) -> Subscriber:
            made_one = Subscriber(made, endpoint)
            if serverkey:
                made_one.socket.curve_serverkey = serverkey
                public, secret = load_certificate(keys / f"{name}.key_secret")
                made_one.socket.curve_publickey, made_one.socket.curve_secretkey = public, secret
            return made_one

        wrong, _ = load_certificate(keys / "unknown.key")
        for serverkey, name in ((server, "unknown"), (wrong, "known"), (None, "")):
            stranger = subscriber(serverkey, name)
            assert await handshake(stranger) != zmq.EVENT_HANDSHAKE_SUCCEEDED
            stranger.socket.close()
        assert not publisher_of(app).subscribed
        friend = subscriber(server, "known")
        assert await handshake(friend) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        await subscribed(app, "x")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"zmq": "5560"}, "--zmq 5560 is no address; wanted an address like tcp://127.0.0.1:5560"),
        ({"zmq": "udp://127.0.0.1:5560"}, "is no address"),
        ({"zmq": "tcp://127.0.0.1"}, "is no address"),
        ({"zmq": "tcp://127.0.0.1:65536"}, "is no address"),
        ({"zmq": "tcp://[:5560"}, "is no address"),
        ({"zmq": "ipc://"}, "--zmq ipc:// is no address"),
        ({"zmq": "tcp://0.0.0.0:0"}, "wanted --zmq-key with it"),
        ({"zmq": "tcp://*:5560"}, "--zmq .* wanted --zmq-key with it"),
        ({"zmq": ANY_PORT, "token": "sesame"}, "asks nobody for the token"),
        ({"zmq": ANY_PORT, "zmq_key": Path("none")}, "--zmq-key none: cannot be used"),
        ({"zmq": ANY_PORT, "zmq_clients": Path("none")}, "without --zmq-key"),
        ({"zmq_key": Path("none")}, "protects nothing"),
    ],
)
def test_options_that_cannot_be_used_are_told(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadOptions, match=problem):
        ZeroMQEndpoint(ServerConfig(**options))


def test_key_files_that_cannot_be_used_are_told(keys: Path) -> None:
    def endpoint(key: Path, clients: Path | None = None) -> ZeroMQEndpoint:
        return ZeroMQEndpoint(ServerConfig(zmq="tcp://*:0", zmq_key=key, zmq_clients=clients))

    secret = keys / "server.key_secret"
    assert endpoint(secret).secret == load_certificate(secret)[1]
    assert endpoint(secret, keys / "clients").clients
    assert ZeroMQEndpoint(ServerConfig(zmq="tcp://*:0", insecure=True)).secret is None
    with pytest.raises(BadOptions, match=r"server.key: holds no secret key"):
        endpoint(keys / "server.key")
    with pytest.raises(BadOptions, match=r"no \.key files"):
        endpoint(secret, keys / "nowhere")
    (keys / "clients" / "broken.key").write_text('public-key = "short"\n')
    with pytest.raises(BadOptions, match=r"broken\.key: holds no public key"):
        endpoint(secret, keys / "clients")
