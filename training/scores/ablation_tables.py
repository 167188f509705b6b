"""The tables of ``training.ablate``: rows of networks, each trained with one seed or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from training.models.baselines import KNOWN, NOT_BUILT
from training.scores.branches import BranchShare, branch_table, mean_shares
from training.scores.comparison import (
    Difference,
    Seeds,
    comparison_table,
    comparisons,
    mean_over_seeds,
    seed_estimates,
)
from training.scores.figures import ABOUT, FURTHER, MAIN, TITLES
from training.scores.kept import KeptScores
from training.scores.modes import Mode, paper_mode
from training.scores.paper_tables import (
    RIVALS,
    VARIANTS,
    MeasuredRow,
    paper_json,
    paper_markdown,
    paper_table,
)
from training.scores.summary import SummaryRow, metrics_table

PROPOSED: Final = "kfusion"
NAMES: Final = {
    **VARIANTS,
    **RIVALS,
    PROPOSED: "KFusion (proposed)",
    "lstm-cells": "KFusion with LSTM cells",
    "no-direct-paths": "the same without direct paths",
    "transformer": "log-mel Transformer, linear head",
}


@dataclass(frozen=True)
class AblationTables:
    """``kept``: by network, its scores seed by seed. ``measured_on``: the data and split.

    ``papers``: the paper's tables that are wanted, and the networks that are rows of each.
    """

    kept: Mapping[str, Sequence[KeptScores]]
    modes: Sequence[Mode]
    measured_on: str
    papers: Mapping[int, Sequence[str]]

    @property
    def base(self) -> str:
        """The name of the row that the others are compared with."""
        row = PROPOSED if PROPOSED in self.kept else next(iter(self.kept))
        return NAMES.get(row, row)

    def seeds(self, mode: Mode) -> dict[str, Seeds]:
        """{row's name: its scores, seed by seed}."""
        return {
            NAMES.get(row, row): [kept.results[str(mode)].clips for kept in of_row]
            for row, of_row in self.kept.items()
        }

    @cached_property
    def rows(self) -> dict[str, list[SummaryRow]]:
        """By mode, means over seeds with intervals over clips and seeds."""
        return {
            str(mode): [
                SummaryRow(name, len(seeds[0]), seed_estimates(seeds))
                for name, seeds in self.seeds(mode).items()
            ]
            for mode in self.modes
        }

    @cached_property
    def comparisons(self) -> dict[str, dict[str, dict[str, Difference]]]:
        """By mode, the rows compared with :attr:`base`."""
        return {str(mode): comparisons(self.seeds(mode), self.base) for mode in self.modes}

    @cached_property
    def paper_cells(self) -> dict[int, list[list[str]]]:
        """The cells of the paper's tables, by number; without those of which no row is here."""
        found: dict[int, list[list[str]]] = {}
        for number, networks in self.papers.items():
            rows = [
                MeasuredRow(NAMES.get(row, row), row, mode, mean_over_seeds(seeds))
                for row in self.kept
                for mode in self.modes
                if row in networks
                for seeds in [self.seeds(mode)[NAMES.get(row, row)]]
            ]
            if rows:
                found[number] = paper_table(number, rows, self.measured_on)
        return found

    @cached_property
    def branches(self) -> dict[str, list[BranchShare]]:
        """Of each KFusion, means over seeds."""
        return {
            NAMES.get(row, row): mean_shares([kept.branches for kept in of_row])
            for row, of_row in self.kept.items()
            if of_row[0].branches
        }

    @property
    def before(self) -> dict[str, list[str]]:
        """The columns before the figures: the rows' names, seeds and parameters."""
        first = [of_row[0].parameters for of_row in self.kept.values()]
        return {
            "": [NAMES.get(row, row) for row in self.kept],
            "seeds": [str(len(of_row)) for of_row in self.kept.values()],
            "parameters": [f"{counts['trainable']:,}" for counts in first],
            "with frozen ones": [f"{counts['all']:,}" for counts in first],
        }

    @property
    def markdown(self) -> str:
        parts = [f"# {self.measured_on}"]
        for mode, rows in self.rows.items():
            parts += [
                f"## Hop and look-ahead {mode}: aligned, means over seeds",
                metrics_table(rows, [*MAIN, *FURTHER], before=self.before),
            ]
            if compared := self.comparisons[mode]:
                parts.append(comparison_table(compared, self.base))
        for number, cells in self.paper_cells.items():
            parts += [f"## Table {number} of the paper", paper_markdown(cells)]
            if number == 1:
                parts.append(self.rivals)
        if self.branches:
            parts += [
                f"## What each branch adds, {paper_mode(self.modes)}, means over seeds",
                branch_table(self.branches),
            ]
        lines = [f"- {TITLES[name]}: {about}." for name, about in ABOUT.items()]
        return "\n\n".join([*parts, "\n".join(["Columns:", "", *lines])]) + "\n"

    @property
    def rivals(self) -> str:
        """Markdown: what is known of the re-made rivals, and which are not made."""
        lines = ["Rivals:", ""]
        for network in self.kept:
            if network in RIVALS:
                source, known, guessed = KNOWN[network]
                lines.append(
                    f"- {RIVALS[network]}: {source}. Here: {known}. Of our own: {guessed}."
                )
        lines += [f"- {name}: not made. {reason}" for name, reason in NOT_BUILT.items()]
        return "\n".join(lines)

    @property
    def json(self) -> dict[str, Any]:
        """{measured_on, networks, modes, branches, tables}."""
        return {
            "measured_on": self.measured_on,
            "networks": {
                NAMES.get(row, row): {"seeds": len(of_row), "parameters": of_row[0].parameters}
                for row, of_row in self.kept.items()
            },
            "modes": {
                mode: {
                    "rows": {row.name: row.json for row in rows},
                    f"less {self.base}": {
                        name: {figure: d.json for figure, d in found.items()}
                        for name, found in self.comparisons[mode].items()
                    },
                }
                for mode, rows in self.rows.items()
            },
            "branches": {
                name: [share.json for share in shares] for name, shares in self.branches.items()
            },
            "tables": {
                str(number): paper_json(cells) for number, cells in self.paper_cells.items()
            },
        }
