"""How the server does on this machine, each figure beside the command that made it::

    python -m client.bench [--clip speech.flac] [--out build/bench] [--rows one-16k twenty-spread]

Every row starts a server of its own on a free port and runs ``python -m client loadtest``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client.loadtest.server_process import ServerProcess
from kfusion.errors import BadOptions, KFusionError

ROOM: Final = ("--max-sessions", "4096")  # that no trial ends at the default of 64


class BenchError(KFusionError):
    """A run of the load test measured nothing."""


@dataclass(frozen=True)
class Row:
    """A run: ``options`` of the load test against a server with ``server`` options."""

    what: str
    options: tuple[str, ...]
    server: tuple[str, ...] = ROOM
    repeated: bool = False  # the median of several runs is told
    searches: bool = False


SYNTHETIC: Final = ("--engine", "synthetic", *ROOM)
ROWS: Final = {
    "one-16k": Row("one stream, 16 kHz", ()),
    "one-48k": Row("one stream, 48 kHz", ("--rate", "48000")),
    "twenty-spread": Row("20 streams, starts spread", ("--streams", "20"), repeated=True),
    "twenty-phase": Row(
        "20 streams in phase", ("--streams", "20", "--starts", "phase"), repeated=True
    ),
    "most-spread": Row(
        "most streams, starts spread", ("--find", "--streams", "8"), searches=True
    ),
    "most-phase": Row(
        "most streams in phase", ("--find", "--streams", "8", "--starts", "phase"), searches=True
    ),
    "synthetic-200": Row(
        "200 streams, chunks of 100 ms, no model",
        ("--streams", "200", "--chunk-ms", "100"),
        SYNTHETIC,
    ),
    "synthetic-most": Row(
        "most streams, chunks of 20 ms, no model",
        ("--find", "--streams", "16"),
        SYNTHETIC,
        searches=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How long and how often; ``clips`` may be none."""

    seconds: float
    search_seconds: float
    runs: int
    clips: tuple[Path, ...]
    out: Path


def load_test(plan: Plan, row: Row) -> list[str]:
    """The arguments of the load test that make this row, without the address and the file."""
    seconds = plan.search_seconds if row.searches else plan.seconds
    options = ["loadtest", *row.options, "--seconds", f"{seconds:g}"]
    return [*options, "--clip", *map(str, plan.clips)] if plan.clips else options


def measure(plan: Plan, name: str) -> list[dict[str, Any]]:
    """The load test's JSON of every run of a row.

    Raises :class:`BenchError`, and :class:`~kfusion.errors.ConnectionFailed` if no server starts.
    """
    row = ROWS[name]
    results: list[dict[str, Any]] = []
    with ServerProcess(*row.server) as server:
        for k in range(plan.runs if row.repeated else 1):
            out = plan.out / f"{name}-{k + 1}.json"
            command = [sys.executable, "-m", "client", *load_test(plan, row)]
            command += ["--url", server.url, "--server-pid", str(server.process.pid)]
            environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
            done = subprocess.run([*command, "--json", str(out)], env=environment, check=False)
            if done.returncode not in (0, 1):
                raise BenchError(f"{name}: the load test ended with {done.returncode}")
            results.append(json.loads(out.read_text()))
    return results


def cells(row: Row, results: Sequence[dict[str, Any]]) -> list[str]:
    """A row's figures: the median of each over its runs, or a search's largest trial that held."""
    if row.searches:
        found = results[0]["streams"]
        held = [t for t in results[0]["trials"] if t["load"]["streams"] == found]
        figure = f"**{found}** within {results[0]['bound_ms']:g} ms"
        return [figure, *(_figures(held) if held else [""] * 5)]
    return [str(results[0]["load"]["streams"]), *_figures(results)]


def _figures(reports: Sequence[dict[str, Any]]) -> list[str]:
    lost = sum(sum(r["frames"]["dropped"].values()) + r["frames"]["missing"] for r in reports)
    cpu = [_median(reports, "loader_cpu"), _median(reports, "server_cpu")]
    return [
        " / ".join(_told(_median(reports, "total_ms", p), ".0f") for p in ("p50", "p95", "p99")),
        " / ".join(_told(_median(reports, "beyond_ms", p), ".1f") for p in ("p50", "p95", "p99")),
        str(lost),
        _told(_median(reports, "late_ms", "p95"), ".1f"),
        " / ".join(_told(None if x is None else 100 * x, ".0f") for x in cpu),
    ]


def _median(reports: Sequence[dict[str, Any]], *path: str) -> float | None:
    values: list[float] = []
    for r in reports:
        value: Any = r
        for key in path:
            value = None if value is None else value[key]
        if value is not None:
            values.append(value)
    return statistics.median(values) if values else None


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


HEAD: Final = (
    "", "streams", "total ms p50 / p95 / p99", "beyond ms p50 / p95 / p99", "frames lost",
    "loader late ms p95", "CPU % of a core, loader / server", "command",
)  # fmt: skip


def table(plan: Plan, results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row a measurement, with the commands that made it."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for name, runs in results.items():
        row = ROWS[name]
        what = f"{row.what}, median of {len(runs)}" if len(runs) > 1 else row.what
        server = " ".join(("python -m server", *row.server))
        test = " ".join(("python -m client", *load_test(plan, row)))
        lines.append((what, *cells(row, runs), f"`{server}`, `{test}`"))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bench(plan: Plan, names: Sequence[str]) -> str:
    """Measures rows and gives their table, which is also kept in ``plan.out``."""
    plan.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        print(f"\n{ROWS[name].what}", flush=True)
        results[name] = measure(plan, name)
    sound = ", ".join(map(str, plan.clips)) or "a made one, speech-like"
    said = f"{table(plan, results)}\n\nSound: {sound}. Cores: {os.cpu_count()}.\n"
    (plan.out / "serving.md").write_text(said)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m client.bench", description=__doc__)
    p.add_argument("--clip", type=Path, nargs="+", default=[], metavar="FILE")
    p.add_argument("--out", type=Path, default=Path("build/bench"), metavar="FOLDER")
    p.add_argument("--rows", nargs="+", default=list(ROWS), help="of " + ", ".join(ROWS))
    p.add_argument("--seconds", type=float, default=60.0, help="a run (%(default)g)")
    p.add_argument("--search-seconds", type=float, default=15.0, help="a trial (%(default)g)")
    p.add_argument("--runs", type=int, default=3, help="of 20 streams (%(default)s)")
    a = p.parse_args(arguments)
    try:
        for name in a.rows:
            if name not in ROWS:
                raise BadOptions(f"row {name!r} is unknown; wanted one of {', '.join(ROWS)}")
        plan = Plan(a.seconds, a.search_seconds, max(1, a.runs), tuple(a.clip), a.out)
        print("\n" + bench(plan, a.rows))
    except (KFusionError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
