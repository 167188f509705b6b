"""Tables as Markdown and CSV, and numbers as JSON has them.

Prints a CSV file as a Markdown table::

    python -m training.scores.tables training/results/tries.csv
"""

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from kfusion.errors import DataError, run_command


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


def csv_as_markdown(path: Path) -> str:
    """The table of a CSV file, every cell as it stands.

    Raises DataError for a file that cannot be read, or with lines of different lengths.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); wanted a CSV file in UTF-8") from None
    if not lines:
        raise DataError(f"{path}: is empty; wanted a line of titles and a line for each row")
    for number, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise DataError(f"{path}, line {number}: {len(line)} cells; wanted {len(lines[0])}")
    return markdown_table(lines[0], lines[1:], text=len(lines[0]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.scores.tables", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", type=Path, help="a CSV file with a line of titles")
    options = parser.parse_args(argv)
    return run_command("kfusion-tables", lambda: print(csv_as_markdown(options.file)))


if __name__ == "__main__":
    raise SystemExit(main())
