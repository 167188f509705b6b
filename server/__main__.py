"""``python -m server``: streams landmarks to whoever connects."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from kfusion import __version__
from kfusion.errors import KFusionError, MissingExtra, run_command
from kfusion.options import add_options, parsed
from server.config import ServerConfig

if TYPE_CHECKING:  # main() imports it, to say plainly what is not installed
    from server.app import App

SWITCH_INTERVAL_S = 0.0005
"""After which an inference thread lets the event loop go on; Python's default is 5 ms."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kfusion-server", description=__doc__)
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    add_options(p, ServerConfig)
    p.set_defaults(token=os.environ.get("KFUSION_TOKEN"))
    p.add_argument(
        "--log-format", default="text", choices=["text", "json"], help="json: an object a line"
    )
    p.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return p


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
            print(f"ZeroMQ: frames at {app.publisher.address}")
        print(
            f"KFusion ({app.registry.model.name}) is ready: open {scheme}://{host}:{port}/",
            flush=True,
        )
        await stop.wait()


def run(a: argparse.Namespace) -> None:
    try:
        from server.app import App
        from server.logs import configure
    except ImportError as error:
        raise MissingExtra(
            f"{error.name} is not installed; pip install 'kfusion[server]'"
        ) from None
    configure(a.log_level.upper(), a.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = App(parsed(ServerConfig, a))
    try:
        asyncio.run(serve(app))
    except OSError as error:
        raise KFusionError(f"cannot listen on {a.host}:{a.port}: {error}") from None


def main() -> int:
    a = parser().parse_args()
    return run_command("kfusion-server", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
