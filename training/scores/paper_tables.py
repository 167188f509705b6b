"""The paper's Tables 1 and 2 (arXiv 2409.05330), with rows measured here below them.

The published numbers are facts copied from the paper; nothing here was run to obtain them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from training.scores.figures import Row
from training.scores.metrics import DISTANCES
from training.scores.modes import Mode, paper_mode
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

RIVALS: Final = {
    "eskimez": "Eskimez et al., LSTM",
    "chen": "Chen et al., AT-net",
    "ji": "Ji et al., EVP",
    "sinha": "Sinha et al., graph network",
    "cao": "Cao et al., SpeechSyncNet",
}
"""The networks of :data:`training.models.networks.BASELINES` that are made after another's."""

NOTE: Final = (
    "Rows measured here are aligned figures in pixels of the 256 x 256 crop, on the data and split "
    "named in their row, at the hop and look-ahead named behind it; one of them stands for the "
    "paper: hop 30 and no look-ahead, and where clips are labelled with their emotion and the "
    "speaker's neutral face given. Re-made rivals are networks of this code after their papers. Of "
    "the published numbers neither the pixels' scale nor the alignment nor the split is stated in "
    "full, so the two kinds of rows cannot be compared as they stand."
)
HEAD: Final = ("method", "data", "source", "year", "M-LD", "M-LVD", "F-LD", "F-LVD")


@dataclass(frozen=True)
class MeasuredRow:
    """A network's figures in one mode; ``network`` is its name in the table of networks."""

    name: str
    network: str
    mode: Mode
    figures: Row

    def method(self, number: int) -> str:
        """What Table ``number`` calls it."""
        title = {1: RIVALS, 2: VARIANTS}[number].get(self.network, self.name)
        return (
            f"{title}, {self.mode}" if title == self.name else f"{title} ({self.name}), {self.mode}"
        )


def paper_table(number: int, rows: Sequence[MeasuredRow], measured_on: str) -> list[list[str]]:
    """The cells of Table 1 or 2 below :data:`HEAD`: as published, then the rows measured here.

    Of the latter those in the mode that stands for the paper come first.
    """
    if number == 1:
        published = [
            [method, data, "published", *figures]
            for data, of_data in TABLE_1.items()
            for method, *figures in of_data
        ]
    else:
        published = [[name, "MEAD", "published", "", *figures] for name, figures in TABLE_2.items()]
    paper = paper_mode([row.mode for row in rows])
    measured = [
        [
            row.method(number),
            measured_on,
            ", ".join(
                ["measured here"]
                + ["re-made rival"] * (row.network in RIVALS)
                + ["the paper's mode"] * (row.mode == paper and row.mode.of_paper)
            ),
            "",
            *(f"{row.figures[k]:.3f}" for k in DISTANCES),
        ]
        for row in sorted(rows, key=lambda row: row.mode != paper)
    ]
    return [*published, *measured]


def paper_markdown(cells: Sequence[Sequence[str]]) -> str:
    return f"{markdown_table(HEAD, cells, text=4)}\n\n{NOTE}"


def paper_json(cells: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [dict(zip(HEAD, row, strict=True)) for row in cells]
