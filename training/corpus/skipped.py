"""Clips that cannot be used: their lines in skipped.jsonl, and what is said of them in sum."""

import re
from collections.abc import Iterable

import msgspec


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
