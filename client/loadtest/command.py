"""``python -m client loadtest``: many streams against one server, and their latencies.

Exit codes: 0 measured, and the bound held if one was given; 1 it did not hold, frames or streams
were refused or lost, or no number of streams held; 2 not measured: no server, a server that died
or refused everybody, or wrong options.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.atomic_file import AtomicFile
from client.loadtest.load import DEFAULT_BOUND_MS, Load, LoadClip, read_clips
from kfusion import options
from kfusion.errors import BadOptions, Busy, ConnectionLost
from kfusion.options import option

if TYPE_CHECKING:
    from client.loadtest.report import Report

RETRY_S = 5


@dataclass(frozen=True)
class ReportOptions:
    """What a load test does with its runs."""

    clip: tuple[Path, ...] = option(
        (),
        "sound files, repeated, each stream from its own position in one; else a synthetic sound",
        metavar="FILE",
    )
    bound_ms: float | None = option(
        None,
        "p95 of the total latency may be so much, and no frame lost, else the exit code is 1 "
        "(with --find: 260, or 300 in phase)",
        metavar="MS",
    )
    find: bool = option(False, "the most streams that hold, in trials that begin with --streams")
    most: int = option(4096, "streams tried (%(default)s)", metavar="N")
    json: Path | None = option(None, metavar="OUT.json")
    plot: Path | None = option(None, "needs matplotlib", metavar="OUT.png")

    def check(self, load: Load) -> None:
        """Raises :class:`~kfusion.errors.BadOptions`, or what :meth:`Load.check` does."""
        load.check()
        if self.most < load.streams:
            raise BadOptions(f"--most {self.most}: wanted at least the {load.streams} of --streams")
        if self.bound_ms is not None and not 0 < self.bound_ms < float("inf"):
            raise BadOptions(f"--bound-ms {self.bound_ms:g}: wanted more than 0")


def add_options(p: argparse.ArgumentParser) -> None:
    """Adds the options of the command, beside --url and --token."""
    options.add_options(p, Load)
    options.add_options(p, ReportOptions)


def run(a: argparse.Namespace) -> int:
    """Runs the command. Raises :class:`~kfusion.errors.KFusionError` if nothing was measured."""
    load = options.parsed(Load, a, url=a.url, token=a.token)
    evaluation = options.parsed(ReportOptions, a)
    evaluation.check(load)
    with ExitStack() as undo:
        files = OutputFiles(evaluation.json, evaluation.plot, undo)
        clips = read_clips(evaluation.clip, load.rate, load.chunk_ms)
        if evaluation.find:
            return _find(load, clips, evaluation, files)
        return _measure(load, clips, evaluation.bound_ms, files)


class OutputFiles:
    """The files to write: checked before the run, kept only when they are complete."""

    def __init__(self, table: Path | None, chart: Path | None, undo: ExitStack) -> None:
        if chart is not None:
            from client.loadtest import charts

            charts.check()
        self.table = self._open(table, undo)
        self.chart = self._open(chart, undo)

    def _open(self, path: Path | None, undo: ExitStack) -> AtomicFile | None:
        if path is None:
            return None
        file = AtomicFile(path)
        undo.callback(file.discard)
        return file

    def commit(self, data: dict[str, Any]) -> None:
        if self.table is not None:
            self.table.temporary.write_text(json.dumps(data, indent=1) + "\n")
            self.table.commit()
        if self.chart is not None:
            self.chart.commit()


def _measure(
    load: Load, clips: Sequence[LoadClip], bound_ms: float | None, files: OutputFiles
) -> int:
    from client.loadtest.report import as_json, frame_latencies, report, report_text
    from client.loadtest.workers import measure

    trace = asyncio.run(measure(load, clips))
    frames = frame_latencies(trace)
    r = report(trace, frames)
    print(report_text(r), flush=True)
    failures = r.failures(bound_ms)
    if files.chart is not None:
        from client.loadtest import charts

        charts.draw_run(r, frames, bound_ms, files.chart.temporary)
    files.commit(as_json(r) | {"bound_ms": bound_ms, "failings": failures})
    if r.refused == load.streams:
        refusal = trace.streams[0].refused
        raise Busy(f"all {load.streams} streams were refused: {refusal}", RETRY_S)
    _check_lost(r)
    if bound_ms is not None:
        print(f"{bound_ms:g} ms: " + (", ".join(failures) or "held"))
    return 1 if failures else 0


def _find(
    load: Load, clips: Sequence[LoadClip], evaluation: ReportOptions, files: OutputFiles
) -> int:
    from client.loadtest.report import as_json, report
    from client.loadtest.workers import measure

    bound_ms = evaluation.bound_ms or DEFAULT_BOUND_MS[load.starts]
    trials: list[Report] = []

    def holds(streams: int) -> bool:
        r = report(asyncio.run(measure(replace(load, streams=streams), clips)))
        trials.append(r)
        failures = r.failures(bound_ms)
        p95 = "no frame" if r.total_ms is None else f"p95 {r.total_ms.p95:.0f} ms, held"
        print(f"{streams} streams: {', '.join(failures) or p95}", flush=True)
        _check_lost(r)
        return not failures

    most = most_streams(holds, load.streams, evaluation.most)
    print(f"{most} streams hold within {bound_ms:g} ms at p95, starts {load.starts}")
    if files.chart is not None:
        from client.loadtest import charts

        charts.draw_search(trials, bound_ms, most, files.chart.temporary)
    files.commit({"streams": most, "bound_ms": bound_ms, "trials": [as_json(r) for r in trials]})
    return 0 if most else 1


def _check_lost(r: Report) -> None:
    if sum(r.lost.values()) == r.load.streams:
        raise ConnectionLost(f"all {r.load.streams} streams: {next(iter(r.lost))}")


def most_streams(holds: Callable[[int], bool], first: int, limit: int) -> int:
    """The largest count of 1 .. ``limit`` for which ``holds`` is true; 0 if it never is.

    Doubles the count from ``first`` until it does not hold, then bisects, to within a
    thirty-second, which is exact below 64.
    """
    good, bad = 0, limit + 1
    count = min(first, limit)
    while good < bad - 1:
        if holds(count):
            good = count
        else:
            bad = count
        if bad - good <= max(1, good // 32):
            break
        count = min(2 * good, limit) if bad > limit else (good + bad) // 2
    return good
