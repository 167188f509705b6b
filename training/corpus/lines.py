"""Files of JSON lines, and the line of a clip that cannot be used."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from kfusion.errors import DataError

T = TypeVar("T")


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """Whole lines of a JSON-lines file; a last one without its end is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        return [msgspec.json.decode(line, type=kind) for line in lines]
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: line is no {kind.__name__} ({error})") from None


def size_of(entries: Sequence[msgspec.Struct]) -> int:
    """Bytes of their lines."""
    return sum(len(msgspec.json.encode(e)) + 1 for e in entries)


class Skipped(msgspec.Struct, frozen=True):
    name: str
    reason: str


def counted_reasons(skipped: Iterable[Skipped], most: int = 5) -> list[str]:
    """The commonest reasons, each counted and with a clip's name, then how many have others.

    Reasons that differ in their numbers alone are one.
    """
    alike: dict[str, list[Skipped]] = {}
    for s in skipped:
        alike.setdefault(re.sub(r"[\d.]*\d", "#", s.reason), []).append(s)
    groups = sorted(alike.values(), key=len, reverse=True)
    said = [f"{len(g)} x {g[0].reason} ({g[0].name})" for g in groups[:most]]
    if rest := sum(len(g) for g in groups[most:]):
        said.append(f"{rest} x other reasons")
    return said
