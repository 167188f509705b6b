"""``python -m server``: streams landmarks to whoever connects."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kfusion import __version__
from kfusion.errors import KFusionError, MissingExtra
from kfusion.runtime import ENGINES
from server.config import ServerConfig

if TYPE_CHECKING:  # main() imports it, to say plainly what is not installed
    from server.app import App

SWITCH_S = 0.0005
"""After which a lane has to let the event loop go on, Python's own choice being 5 ms."""


def between(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number within these bounds."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number, {low} to {high}")
        return int(text)

    return number


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kfusion-server", description=__doc__)
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    p.add_argument("--host", default="127.0.0.1", help="address to bind (%(default)s)")
    p.add_argument(
        "--port",
        type=between(0, 65535),
        default=8765,
        help="port; 0 takes a free one (%(default)s)",
    )
    p.add_argument("--engine", choices=ENGINES, default="auto", help="synthetic needs no torch")
    p.add_argument("--checkpoint", type=Path, help="a model file other than the bundled one")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (%(default)s)")
    p.add_argument(
        "--threads", type=between(0, 256), default=0, help="of the engine; 0: as many as cores"
    )
    p.add_argument(
        "--max-sessions",
        type=between(1, 100_000),
        default=1000,
        help="streams at once (%(default)s), live ones as far as the machine keeps up",
    )
    p.add_argument(
        "--max-per-address",
        type=between(1, 100_000),
        default=32,
        help="streams of one other machine (%(default)s)",
    )
    p.add_argument(
        "--max-batch",
        type=between(1, 256),
        default=64,
        help="windows a step, if it is quick enough (%(default)s)",
    )
    p.add_argument(
        "--token",
        default=os.environ.get("KFUSION_TOKEN"),
        help="clients must show it (default: the environment's KFUSION_TOKEN, if any)",
    )
    p.add_argument("--insecure", action="store_true", help="let other machines in without a token")
    p.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="pages from here may open streams too, as https://example.org; null for files "
        "(those of this server and of this machine always may)",
    )
    p.add_argument("--no-webrtc", action="store_true", help="streams over WebSocket alone")
    p.add_argument(
        "--ice-address",
        action="append",
        default=[],
        metavar="IP",
        help="WebRTC at this address of this machine (default: that of --host, or all)",
    )
    p.add_argument(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL",
        help="stun:HOST:PORT, or 'turn:HOST:PORT NAME PASSWORD'; none by default",
    )
    p.add_argument("--tls-cert", type=Path, metavar="PEM", help="chain for wss:// and https://")
    p.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    p.add_argument(
        "--zmq",
        metavar="ADDRESS",
        help="publish all sessions' frames on ZeroMQ, as at tcp://127.0.0.1:5560 (docs/zeromq.md)",
    )
    p.add_argument(
        "--zmq-key", type=Path, metavar="FILE", help="the server's CURVE key, a .key_secret file"
    )
    p.add_argument(
        "--zmq-clients",
        type=Path,
        metavar="FOLDER",
        help="let in only those whose .key file lies here",
    )
    p.add_argument("--no-pictures", action="store_true", help="find no faces in clients' pictures")
    p.add_argument(
        "--identities",
        type=Path,
        metavar="FOLDER",
        help="keep the faces that the token's holders put, at most "
        f"{ServerConfig().limits.identities}, in files of 4 KB here; without it they are forgotten "
        "when the server ends",
    )
    p.add_argument(
        "--log-format", default="text", choices=["text", "json"], help="json: an object a line"
    )
    p.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return p


def config_of(a: argparse.Namespace) -> ServerConfig:
    return ServerConfig(
        host=a.host,
        port=a.port,
        token=a.token or None,
        insecure=a.insecure,
        origins=tuple(origin.rstrip("/") for origin in a.origin),
        webrtc=not a.no_webrtc,
        ice_addresses=tuple(a.ice_address),
        ice_servers=tuple(a.ice_server),
        tls_cert=a.tls_cert,
        tls_key=a.tls_key,
        zmq=a.zmq,
        zmq_key=a.zmq_key,
        zmq_clients=a.zmq_clients,
        engine=a.engine,
        checkpoint=a.checkpoint,
        device=a.device,
        threads=a.threads,
        max_sessions=a.max_sessions,
        max_per_address=a.max_per_address,
        max_batch=a.max_batch,
        pictures=not a.no_pictures,
        identities=a.identities,
    )


async def serve(app: App) -> None:
    """Until a signal says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            signal.signal(number, lambda _n, _f: loop.call_soon_threadsafe(stop.set))
    async with app.serving() as server:
        port = next(iter(server.sockets)).getsockname()[1]
        host = f"[{app.config.host}]" if ":" in app.config.host else app.config.host
        scheme = "https" if app.tls else "http"
        if app.publisher is not None:
            print(f"ZeroMQ: frames at {app.publisher.endpoint}")
        print(f"KFusion ({app.model.name}) is ready: open {scheme}://{host}:{port}/", flush=True)
        await stop.wait()


def main() -> int:
    a = parser().parse_args()
    try:
        try:
            from server.app import App
            from server.logs import configure
        except ImportError as error:
            raise MissingExtra(
                f"{error.name} is not installed; pip install 'kfusion[server]'"
            ) from None
        configure(a.log_level.upper(), a.log_format)
        sys.setswitchinterval(SWITCH_S)
        asyncio.run(serve(App(config_of(a))))
    except KFusionError as error:
        print(f"kfusion-server: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"kfusion-server: cannot listen on {a.host}:{a.port}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
