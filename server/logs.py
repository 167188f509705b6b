"""What the server writes down: one line an event, for people or, as JSON, for machines.

Never audio, points, identities' or resume tokens.
"""

from __future__ import annotations

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

_PARTS = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Everything to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(_PARTS) if form == "json" else logging.Formatter(_PARTS))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for told in ("aioice", "aiortc"):  # every address they try is no news
        logging.getLogger(told).setLevel("DEBUG" if level == "DEBUG" else "WARNING")


def event(log: logging.Logger, what: str, **fields: str | int | float | None) -> None:
    """An event and its figures: as ``what: name=value ...``, and as fields where lines are JSON."""
    told = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("%s: %s", what, told, extra={"event": what, **fields})
