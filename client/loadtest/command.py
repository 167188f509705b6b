"""``python -m client loadtest``: how a server does with so many streams.

Exit codes: 0 measured, and the bound held if one was given; 1 it did not hold, frames or streams
were refused or lost, or none was found to hold; 2 not measured: no server, a server that died or
refused everybody, or wrong options.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from client.atomic_file import AtomicFile
from client.loadtest.plan import BOUNDS_MS, Load, Sound, sounds_of
from kfusion.errors import BadOptions, Busy, ConnectionLost

RETRY_S = 5


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of the command, beside --url and --token."""
    d = Load("")
    p.add_argument("--streams", type=int, default=1, metavar="N", help="at once (%(default)s)")
    p.add_argument(
        "--seconds", type=float, default=d.seconds, metavar="S",
        help="of audio a stream, a trial (%(default)g)",
    )  # fmt: skip
    p.add_argument(
        "--clip", type=Path, nargs="+", default=[], metavar="FILE",
        help="sound files, repeated, each stream from its own place in one; else a made sound",
    )  # fmt: skip
    p.add_argument("--rate", type=int, default=d.rate, help="Hz, 8000 to 96000 (%(default)s)")
    p.add_argument("--chunk-ms", type=int, default=d.chunk_ms, help="of a message (%(default)s)")
    p.add_argument("--hop", type=int, default=d.hop, help="frames a step (%(default)s)")
    p.add_argument("--lookahead", type=int, default=d.lookahead, help="frames (%(default)s)")
    p.add_argument("--encoding", choices=("binary", "json"), default=d.encoding)
    p.add_argument("--mode", choices=("live", "file"), default=d.mode)
    p.add_argument(
        "--starts", choices=("spread", "phase"), default=d.starts,
        help="over one hop by the seed, or all at one instant (%(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--ramp", action=argparse.BooleanOptionalAction, default=True,
        help="every stream is ready before the first one speaks",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=d.seed, help="of starts and places (%(default)s)")
    p.add_argument(
        "--warmup", type=float, default=d.warmup, metavar="S", help="not timed (%(default)g)"
    )
    p.add_argument(
        "--processes", type=int, default=1, metavar="P", help="of the loader (%(default)s)"
    )
    p.add_argument(
        "--server-pid", type=int, metavar="PID",
        help="whose CPU and memory /proc tells, where the server's /metrics do not",
    )  # fmt: skip
    p.add_argument(
        "--bound-ms", type=float, metavar="MS",
        help="p95 of the total latency may be so much, and no frame lost, else the exit code is 1 "
        "(with --find: 260, or 300 in phase)",
    )  # fmt: skip
    p.add_argument(
        "--find", action="store_true",
        help="the most streams that hold, in trials that begin with --streams",
    )  # fmt: skip
    p.add_argument(
        "--most", type=int, default=4096, metavar="N", help="streams tried (%(default)s)"
    )
    p.add_argument("--json", type=Path, metavar="OUT.json")
    p.add_argument("--plot", type=Path, metavar="OUT.png", help="needs matplotlib")


def load_of(a: argparse.Namespace) -> Load:
    """Raises what :meth:`Load.check` does."""
    load = Load(
        url=a.url,
        streams=a.streams,
        seconds=a.seconds,
        rate=a.rate,
        chunk_ms=a.chunk_ms,
        hop=a.hop,
        lookahead=a.lookahead,
        encoding=a.encoding,
        mode=a.mode,
        starts=a.starts,
        ramp=a.ramp,
        seed=a.seed,
        warmup=a.warmup,
        token=a.token,
        processes=a.processes,
        server_pid=a.server_pid,
    )
    load.check()
    if a.most < a.streams:
        raise BadOptions(f"--most {a.most}: wanted at least the {a.streams} of --streams")
    return load


class Outputs:
    """The files that were asked for: checked before the run, kept only when they are whole."""

    def __init__(self, table: Path | None, chart: Path | None, undo: ExitStack) -> None:
        if chart is not None:
            from client.loadtest import charts

            charts.check()
        self.table = self._file(table, undo)
        self.chart = self._file(chart, undo)

    def _file(self, path: Path | None, undo: ExitStack) -> AtomicFile | None:
        if path is None:
            return None
        file = AtomicFile(path)
        undo.callback(file.discard)
        return file

    def keep(self, data: dict[str, Any]) -> None:
        if self.table is not None:
            self.table.temporary.write_text(json.dumps(data, indent=1) + "\n")
            self.table.commit()
        if self.chart is not None:
            self.chart.commit()


def run(a: argparse.Namespace) -> int:
    """The command. Raises a :class:`~kfusion.errors.KFusionError` if nothing was measured."""
    load = load_of(a)
    if a.bound_ms is not None and not 0 < a.bound_ms < float("inf"):
        raise BadOptions(f"--bound-ms {a.bound_ms:g}: wanted more than 0")
    with ExitStack() as undo:
        outputs = Outputs(a.json, a.plot, undo)
        sounds = sounds_of(a.clip, load.rate, load.chunk_ms)
        if a.find:
            return _find(load, sounds, a, outputs)
        return _run(load, sounds, a.bound_ms, outputs)


def _run(load: Load, sounds: Sequence[Sound], bound_ms: float | None, outputs: Outputs) -> int:
    from client.loadtest.report import as_json, report, text, timed_of_all
    from client.loadtest.workers import measure

    measured = asyncio.run(measure(load, sounds))
    frames = timed_of_all(measured)
    r = report(measured, frames)
    print(text(r), flush=True)
    failings = r.failings(bound_ms)
    if outputs.chart is not None:
        from client.loadtest import charts

        charts.draw_run(r, frames, bound_ms, outputs.chart.temporary)
    outputs.keep(as_json(r) | {"bound_ms": bound_ms, "failings": failings})
    if r.refused == load.streams:
        raise Busy(f"all {load.streams} streams were refused: {measured.logs[0].refused}", RETRY_S)
    if sum(r.lost.values()) == load.streams:
        raise ConnectionLost(f"all {load.streams} streams: {next(iter(r.lost))}")
    if bound_ms is not None:
        print(f"{bound_ms:g} ms: " + (", ".join(failings) or "held"))
    return 1 if failings else 0


def _find(load: Load, sounds: Sequence[Sound], a: argparse.Namespace, outputs: Outputs) -> int:
    from dataclasses import replace

    from client.loadtest.report import Report, as_json, report
    from client.loadtest.search import most_that_hold
    from client.loadtest.workers import measure

    bound_ms: float = BOUNDS_MS[load.starts] if a.bound_ms is None else a.bound_ms
    trials: list[Report] = []

    def holds(streams: int) -> bool:
        r = report(asyncio.run(measure(replace(load, streams=streams), sounds)))
        trials.append(r)
        failings = r.failings(bound_ms)
        p95 = "no frame" if r.total_ms is None else f"p95 {r.total_ms.p95:.0f} ms, held"
        print(f"{streams} streams: {', '.join(failings) or p95}", flush=True)
        if sum(r.lost.values()) == streams:
            raise ConnectionLost(f"all {streams} streams: {next(iter(r.lost))}")
        return not failings

    found = most_that_hold(holds, load.streams, a.most)
    print(f"{found} streams hold within {bound_ms:g} ms at p95, starts {load.starts}")
    if outputs.chart is not None:
        from client.loadtest import charts

        charts.draw_search(trials, bound_ms, found, outputs.chart.temporary)
    outputs.keep({"streams": found, "bound_ms": bound_ms, "trials": [as_json(r) for r in trials]})
    return 0 if found else 1
