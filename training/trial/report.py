"""What a trial finds: figures beside their bounds, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from training.scores.summary import table


@dataclass(frozen=True)
class Check:
    """A figure that holds where it lies within ``low`` .. ``high``; nan does not hold."""

    what: str
    value: float
    low: float = -inf
    high: float = inf
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.low <= self.value <= self.high

    @property
    def bound(self) -> str:
        if isfinite(self.low) and isfinite(self.high):
            return f"{self.low:.3g} to {self.high:.3g}"
        return f"at least {self.low:.3g}" if isfinite(self.low) else f"at most {self.high:.3g}"

    @property
    def cells(self) -> list[str]:
        unit = f" {self.unit}" if self.unit else ""
        held = "holds" if self.holds else "**does not hold**"
        return [self.what, number(self.value) + unit, self.bound + unit, held]


@dataclass(frozen=True)
class Lines:
    """Figures that have no bound of their own: a table whose first ``text`` columns are words.

    The title may be empty.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    text: int = 1

    @property
    def markdown(self) -> str:
        cells = [[c if isinstance(c, str) else number(c) for c in row] for row in self.rows]
        told = table(self.head, cells, self.text)
        return f"{self.title}\n\n{told}" if self.title else told

    @property
    def json(self) -> dict[str, Any]:
        rows = [dict(zip(self.head, map(_plain, row), strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows}


@dataclass
class Section:
    """One part of a trial; ``about`` says how its figures are measured."""

    name: str
    about: str
    checks: list[Check] = field(default_factory=list[Check])
    tables: list[Lines] = field(default_factory=list[Lines])
    seconds: float = 0.0

    @property
    def held(self) -> int:
        return sum(c.holds for c in self.checks)

    @property
    def markdown(self) -> str:
        parts = [f"## {self.name}", self.about]
        if self.checks:
            head = ["figure", "measured", "bound", ""]
            rows = table(head, [c.cells for c in self.checks], text=4)
            parts += [f"{self.held} of {len(self.checks)} bounds hold.", rows]
        return "\n\n".join([*parts, *(t.markdown for t in self.tables)])

    @property
    def json(self) -> dict[str, Any]:
        checks = [
            {
                "what": c.what,
                "value": _plain(c.value),
                "low": _plain(c.low),
                "high": _plain(c.high),
                "unit": c.unit,
                "holds": c.holds,
            }
            for c in self.checks
        ]
        return {
            "name": self.name,
            "about": self.about,
            "seconds": round(self.seconds, 1),
            "checks": checks,
            "tables": [t.json for t in self.tables],
        }


def number(value: float) -> str:
    """As a table's cell: counts whole, the rest to three places; empty where not defined."""
    if not isfinite(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _plain(value: str | float) -> str | float | None:
    """JSON has no nan and no infinity."""
    return value if isinstance(value, str) or isfinite(value) else None
