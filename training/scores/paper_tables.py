"""The paper's Tables 1 and 2 (arXiv 2409.05330), with rows measured here below them.

The published numbers are facts copied from the paper; nothing here was run to obtain them.
"""

from collections.abc import Mapping
from typing import Final

from training.scores.metrics import DISTANCES
from training.scores.scoring import Row
from training.scores.tables import markdown_table

TABLE_1: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "MEAD": (
        ("Chen et al.", "2019", "3.27", "2.09", "3.82", "1.71"),
        ("Wang et al.", "2020", "2.52", "2.28", "3.16", "2.01"),
        ("Song et al.", "2020", "2.54", "1.99", "3.49", "1.76"),
        ("Ji et al.", "2021", "2.45", "1.78", "3.01", "1.56"),
        ("Sinha et al.", "2022", "2.18", "0.77", "1.24", "0.50"),
        ("Cao et al.", "2023", "1.92", "0.97", "1.25", "0.70"),
        ("KFusion (the paper)", "", "1.33", "0.81", "1.22", "0.59"),
    ),
    "CREMA-D": (
        ("Vougioukas et al.", "2020", "2.90", "0.42", "2.80", "0.34"),
        ("Eskimez et al.", "2021", "6.14", "0.49", "5.89", "0.40"),
        ("Sinha et al.", "2022", "2.41", "0.69", "1.35", "0.46"),
        ("KFusion (the paper)", "", "2.37", "0.66", "1.23", "0.52"),
    ),
}
"""By data: method, year, M-LD, M-LVD, F-LD and F-LVD as printed."""

TABLE_2: Final = {
    "w/o KFusion": ("3.300", "2.451", "8.624", "10.00"),
    "w/o LSTM": ("2.799", "1.787", "5.490", "6.123"),
    "w/o Global": ("2.120", "1.373", "4.126", "6.015"),
    "repl MLP": ("1.380", "2.520", "3.990", "3.480"),
    "Proposed": ("1.333", "0.808", "1.225", "0.599"),
}

VARIANTS: Final = {
    "without-kfusion": "w/o KFusion",
    "without-lstm": "w/o LSTM",
    "without-global": "w/o Global",
    "mlp": "repl MLP",
    "kfusion": "Proposed",
}
"""The networks of :data:`training.models.networks.ABLATIONS` by their names in Table 2."""

NOTE: Final = (
    "Rows measured here are aligned figures in pixels of the 256 x 256 crop, on the data and split "
    "named in their row. Of the published numbers neither the pixels' scale nor the alignment nor "
    "the split is stated in full, so the two kinds of rows cannot be compared as they stand."
)


def table_1(rows: Mapping[str, Row], measured_on: str) -> str:
    """Markdown: both halves as published, then the rows measured here."""
    published = [
        [method, data, "published", *figures]
        for data, of_data in TABLE_1.items()
        for method, *figures in of_data
    ]
    return _with_measured(published, rows, measured_on)


def table_2(rows: Mapping[str, Row], measured_on: str) -> str:
    """Markdown: the ablations as published on MEAD, then the rows measured here."""
    published = [[name, "MEAD", "published", "", *figures] for name, figures in TABLE_2.items()]
    return _with_measured(published, rows, measured_on)


def _with_measured(published: list[list[str]], rows: Mapping[str, Row], measured_on: str) -> str:
    measured = [
        [name, measured_on, "measured here", "", *(f"{row[k]:.3f}" for k in DISTANCES)]
        for name, row in rows.items()
    ]
    head = ["method", "data", "source", "year", "M-LD", "M-LVD", "F-LD", "F-LVD"]
    return markdown_table(head, [*published, *measured], text=4) + f"\n\n{NOTE}"
