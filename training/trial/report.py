"""Results of a trial: values beside their bounds, as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from training.scores.tables import markdown_table


@dataclass(frozen=True)
class Check:
    """A value that holds where it lies within ``low`` .. ``high``; nan does not hold."""

    name: str
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
        verdict = "holds" if self.holds else "**does not hold**"
        return [self.name, number(self.value) + unit, self.bound + unit, verdict]


@dataclass(frozen=True)
class Table:
    """Values without bounds. The first ``text`` columns are words; the title may be empty."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    text: int = 1

    @property
    def markdown(self) -> str:
        cells = [[c if isinstance(c, str) else number(c) for c in row] for row in self.rows]
        body = markdown_table(self.head, cells, self.text)
        return f"{self.title}\n\n{body}" if self.title else body

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows by the names in the head."""
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]


@dataclass
class Section:
    """One part of a trial; ``about`` says how its values are measured."""

    name: str
    about: str
    checks: list[Check] = field(default_factory=list[Check])
    tables: list[Table] = field(default_factory=list[Table])
    seconds: float = 0.0

    @property
    def holding(self) -> int:
        """How many bounds hold."""
        return sum(c.holds for c in self.checks)

    @property
    def markdown(self) -> str:
        parts = [f"## {self.name}", self.about]
        if self.checks:
            head = ["figure", "measured", "bound", ""]
            rows = markdown_table(head, [c.cells for c in self.checks], text=4)
            parts += [f"{self.holding} of {len(self.checks)} bounds hold.", rows]
        return "\n\n".join([*parts, *(t.markdown for t in self.tables)])


def number(value: float) -> str:
    """As a table's cell: counts whole, the rest to three places; empty where not defined."""
    if not isfinite(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"
