"""From clips' scores to a summary: figures with bootstrap intervals as Markdown, CSV and JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, Final

from training.scores.branches import BranchShare, branch_table
from training.scores.comparison import Difference, comparison_table
from training.scores.figures import (
    ABOUT,
    FURTHER,
    MAIN,
    RESAMPLES,
    TITLES,
    Estimate,
    bootstrap_estimates,
    ranges,
)
from training.scores.latency import latency_table
from training.scores.legacy import AUTHORS_BATCH
from training.scores.metrics import DISTANCES, ClipScore
from training.scores.paper_tables import paper_json, paper_markdown
from training.scores.scoring import Result
from training.scores.tables import json_value, markdown_table


@dataclass(frozen=True)
class SummaryRow:
    """The estimates of a predictor over all its clips, or over those of one group."""

    name: str
    clips: int
    estimates: Mapping[str, Estimate]
    group: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """{metric: {value, low, high}}, null where undefined; a group's with its clips counted."""
        count = {"clips": self.clips} if self.group else {}
        return count | {
            name: {k: json_value(v) for k, v in asdict(estimate).items()}
            for name, estimate in self.estimates.items()
        }


def summary_rows(results: Mapping[str, Result]) -> list[SummaryRow]:
    """A row a predictor. The ``legacy_*`` metrics are of batches and have no interval."""
    return [
        SummaryRow(
            name,
            len(result.clips),
            bootstrap_estimates(result.clips) | {k: Estimate(v) for k, v in result.legacy.items()},
        )
        for name, result in results.items()
    ]


def grouped_rows(
    results: Mapping[str, Result], key: Callable[[ClipScore], str]
) -> list[SummaryRow]:
    """A row a group and predictor, groups sorted."""
    rows: list[SummaryRow] = []
    for group in sorted({key(c) for r in results.values() for c in r.clips}):
        for name, result in results.items():
            clips = [c for c in result.clips if key(c) == group]
            rows.append(SummaryRow(name, len(clips), bootstrap_estimates(clips), group))
    return rows


GROUPS: Final[dict[str, Callable[[ClipScore], str]]] = {
    "emotion": lambda clip: clip.emotion or "not labelled",
    "speaker": lambda clip: clip.speaker or "not named",
}


def metrics_table(
    rows: Sequence[SummaryRow],
    columns: Sequence[str],
    *,
    interval: bool = True,
    before: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Markdown, without columns that are undefined in every row.

    A column is titled by the last part of its name. ``before``: the cells of the columns before
    the figures, by title; the rows' names unless given.
    """
    columns = [c for c in columns if any(isfinite(row.estimates[c].value) for row in rows)]
    before = before or {"": [row.name for row in rows]}
    lines = [
        [*cells, *(row.estimates[c].text(interval=interval) for c in columns)]
        for row, *cells in zip(rows, *before.values(), strict=True)
    ]
    return markdown_table([*before, *map(title_of, columns)], lines, text=len(before))


def title_of(column: str) -> str:
    for prefix in ("raw_iod_", "raw_", "iod_", "legacy_"):
        column = column.removeprefix(prefix)
    return TITLES[column]


def ranges_table(results: Mapping[str, Result]) -> str:
    """Markdown: the least and the greatest figure of a single clip."""
    columns = [c for c in MAIN if not c.startswith("closure")]
    lines: list[list[str]] = []
    for name, result in results.items():
        found = ranges(result.clips, columns)
        cells = [f"{found[c][0]:.3f} .. {found[c][1]:.3f}" if c in found else "" for c in columns]
        lines.append([name, *cells])
    return markdown_table(["", *map(title_of, columns)], lines)


@dataclass(frozen=True)
class Summary:
    """What was scored and how (``about``), and what came of it.

    ``comparisons``: by the row that is the base, those compared with it. ``table``: the number of
    the paper's table and its cells. ``branches``: by network and mode, what each branch adds.
    """

    results: Mapping[str, Result]
    about: Mapping[str, Any]
    comparisons: Mapping[str, Mapping[str, Mapping[str, Difference]]] = field(
        default_factory=dict[str, Mapping[str, Mapping[str, Difference]]]
    )
    table: tuple[int, list[list[str]]] | None = None
    latency: Sequence[Mapping[str, Any]] = ()
    branches: Mapping[str, Sequence[BranchShare]] = field(
        default_factory=dict[str, Sequence[BranchShare]]
    )

    @cached_property
    def rows(self) -> list[SummaryRow]:
        return summary_rows(self.results)

    @cached_property
    def groups(self) -> dict[str, list[SummaryRow]]:
        """Rows by emotion and by speaker."""
        return {what: grouped_rows(self.results, key) for what, key in GROUPS.items()}

    @property
    def short(self) -> str:
        """Markdown: the main table, comparisons, the paper's table, branches and latency."""
        parts = [metrics_table(self.rows, MAIN), *self.about["notes"], *self._further]
        return "\n\n".join(parts)

    @property
    def _further(self) -> list[str]:
        parts: list[str] = []
        for base, compared in self.comparisons.items():
            parts += [f"## Compared with {base}", comparison_table(compared, base)]
        if self.table:
            number, cells = self.table
            parts += [f"## Table {number} of the paper", paper_markdown(cells)]
        if self.branches:
            parts += ["## What each branch adds", branch_table(self.branches)]
        if self.latency:
            parts += ["## Accuracy against latency, aligned, in pixels",
                      latency_table(self.latency)]  # fmt: skip
        return parts

    @property
    def markdown(self) -> str:
        """The whole summary."""
        about = self.about
        parts = [
            f"# {', '.join(about['data'])}: {about['split']}, {about['clips']} clips",
            f"`{about['command']}`",
            "Behind a network's name stand hop and look-ahead (frames). The emotion is neutral but "
            "where a row says that the clip's label is given, with the speaker's neutral face. In "
            f"brackets 95 % percentile bootstrap intervals over clips ({RESAMPLES} resamples); "
            "clips of one speaker are alike, so between speakers the spread is wider.",
            *about["notes"],
            "## Aligned",
            metrics_table(self.rows, MAIN),
            "\n".join(f"- {TITLES[name]}: {text}." for name, text in ABOUT.items()),
            *self._further,
            "## Aligned, further",
            metrics_table(self.rows, FURTHER),
            "## The least and the most of a clip",
            ranges_table(self.results),
        ]
        for title, prefix in (
            ("Aligned, in % of the inter-ocular distance", "iod_"),
            ("Raw, in pixels", "raw_"),
            ("Raw, in % of the inter-ocular distance", "raw_iod_"),
        ):
            parts += [f"## {title}", metrics_table(self.rows, [prefix + k for k in DISTANCES])]
        parts += [
            f"## legacy_*: what the authors' script computes, batches of {AUTHORS_BATCH}",
            "Frobenius norms of whole batches of 1-s windows, (pixels - 56) / 187 as in their "
            "loader, so they grow with the root of the batch size; their velocity is taken along "
            "the landmark axis (training/scores/legacy.py has the formulas).",
            metrics_table(self.rows, [f"legacy_{k}" for k in DISTANCES], interval=False),
        ]
        for what, rows in self.groups.items():
            if len({row.group for row in rows}) > 1:
                before = {
                    what: [row.group for row in rows],
                    "row": [row.name for row in rows],
                    "clips": [str(row.clips) for row in rows],
                }
                table = metrics_table(rows, [*MAIN, *FURTHER], interval=False, before=before)
                parts += [f"## By {what}, aligned", table]
        return "\n\n".join(parts) + "\n"

    @property
    def json(self) -> dict[str, Any]:
        """{about, rows, by_emotion, by_speaker, comparisons, table, branches, latency}, rows as of
        :attr:`SummaryRow.json`."""
        whole: dict[str, Any] = {
            "about": dict(self.about),
            "rows": {row.name: row.json for row in self.rows},
        }
        for what, rows in self.groups.items():
            groups: dict[str, dict[str, Any]] = {}
            for row in rows:
                groups.setdefault(row.group, {})[row.name] = row.json
            whole[f"by_{what}"] = groups
        whole["comparisons"] = {
            base: {name: {k: d.json for k, d in found.items()} for name, found in compared.items()}
            for base, compared in self.comparisons.items()
        }
        whole["table"] = self.table and {
            "number": self.table[0], "rows": paper_json(self.table[1])
        }  # fmt: skip
        whole["branches"] = {
            name: [share.json for share in shares] for name, shares in self.branches.items()
        }
        whole["latency"] = [{k: json_value(v) for k, v in x.items()} for x in self.latency]
        return whole


def csv_rows(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """A row a clip and predictor."""
    return [
        {
            "name": clip.name,
            "row": name,
            "speaker": clip.speaker,
            "emotion": clip.emotion,
            "level": clip.level,
            "frames": clip.frames,
            **clip.metrics.by_name,
        }
        for name, result in results.items()
        for clip in result.clips
    ]
