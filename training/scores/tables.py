"""Tables as Markdown and CSV, and numbers as JSON has them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """The first ``text`` columns are text, the others numbers."""
    rule = "|" + "---|" * text + "---:|" * (len(head) - text)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def json_value(value: Any) -> Any:
    """None for nan and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not isfinite(value) else value


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The head is the first row's keys; None, nan and infinity are empty cells."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: json_value(v) for k, v in row.items()} for row in rows)
