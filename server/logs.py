"""The server's log: a line an event, as text or as JSON; never audio, points, or tokens."""

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Logs to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(_FORMAT) if form == "json" else logging.Formatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("aioice", "aiortc"):  # they log every address that they try
        logging.getLogger(name).setLevel("DEBUG" if level == "DEBUG" else "WARNING")
    logging.getLogger("kfusion.websockets").setLevel("WARNING")  # not each connection


def event(log: logging.Logger, what: str, **fields: str | int | float | None) -> None:
    """Logs an event as ``what: name=value ...``, and as fields where lines are JSON."""
    values = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("%s: %s", what, values, extra={"event": what, **fields})
