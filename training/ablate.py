"""Trains networks on the same data, seed and budget, scores them alike, and prints the table::

    python -m training.ablate --data corpora/mead --out runs/table2
    python -m training.ablate --data corpora/mead --out runs/all --rows table2 baselines \\
        --seeds 1 2 3 -- --steps 1500 --batch 32

The rows are those of the paper's Table 2 unless others are named. What stands after ``--`` goes to
training.train, the same for every row. A row is resumed where it stopped, and one that is
finished is not made again: start the same command again to go on. Several such commands may
share the work with ``--only``; the last prints the table.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from kfusion import __version__
from kfusion.errors import DataError, run_command
from kfusion.system import file_sha256
from training import train
from training.corpus.format import fingerprint, open_corpora, select_entries
from training.evaluate import score_checkpoint
from training.models.networks import ABLATIONS, BASELINES, CHOICES
from training.scores.paper_tables import TABLE_2, VARIANTS

GROUPS: Final = {
    "table2": list(ABLATIONS),
    "choices": list(CHOICES),
    "baselines": list(BASELINES),
}
TITLES: Final = {
    "without-kfusion": "w/o KFusion",
    "without-lstm": "w/o LSTM",
    "without-global": "w/o Global",
    "mlp": "repl MLP",
    "kfusion": "KFusion (proposed)",
    "lstm-cells": "KFusion with LSTM cells",
    "no-direct-paths": "the same without direct paths",
    "eskimez": "Eskimez et al., LSTM",
    "chen": "Chen et al., AT-net",
    "cao": "Cao et al., SpeechSyncNet",
    "transformer": "log-mel Transformer, linear head",
}
COLUMNS: Final = ("m_ld", "m_lvd", "f_ld", "f_lvd", "correlation", "gain")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kfusion-ablate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"kfusion {__version__}")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared corpora")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--rows", nargs="+", default=["table2"], choices=[*GROUPS, *TITLES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="*", metavar="ROW-SEED", help="make these now")
    parser.add_argument("--hop", type=int, default=3)
    parser.add_argument("--lookahead", type=int, default=3)
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("training", nargs="*", help="-- options of training.train")
    return parser.parse_args(argv)


def select_jobs(options: argparse.Namespace) -> list[tuple[str, int]]:
    """(row, seed), seed by seed; those of ``--only`` where it is given."""
    named = {row for name in options.rows for row in GROUPS.get(name, [name])}
    rows = [row for row in TITLES if row in named]
    jobs = {f"{row}-{seed}": (row, seed) for seed in options.seeds for row in rows}
    if options.only is None:
        return list(jobs.values())
    if unknown := [name for name in options.only if name not in jobs]:
        raise DataError(f"--only {', '.join(unknown)}; wanted some of {', '.join(jobs)}")
    return [jobs[name] for name in options.only]


def train_and_score(options: argparse.Namespace, row: str, seed: int) -> dict[str, float]:
    """One row's scores at one seed, from its folder where they are there already."""
    folder: Path = options.out / f"{row}-{seed}"
    scores = folder / "scores.json"
    command = [*options.training, "--network", row, "--seed", str(seed), "--out", str(folder),
               "--data", *map(str, options.data), "--threads", str(options.threads)]  # fmt: skip
    if options.device:
        command += ["--device", options.device]
    trained = train.train(train.arguments(command))
    held_out = select_entries(open_corpora(options.data), "validation")
    scored = {
        "checkpoint": file_sha256(trained.checkpoint),
        "clips": fingerprint(entry for _, entry in held_out),
        "hop": options.hop,
        "lookahead": options.lookahead,
    }
    if scores.exists() and (kept := json.loads(scores.read_text())).get("scored") == scored:
        return {name: kept[name] for name in COLUMNS}
    clips = (corpus.clip(entry) for corpus, entry in held_out)
    figures = score_checkpoint(trained.checkpoint, clips, options.hop, options.lookahead)
    result = {name: float(figures[name]) for name in COLUMNS}
    scores.write_text(json.dumps({**result, "scored": scored}))
    return result


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: means over seeds with their ranges, and the distances that were published."""
    head = ["", "M-LD", "M-LVD", "F-LD", "F-LVD", "lip correlation", "gain", "published, MEAD"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, seeds in results.items():
        cells = [f"{TITLES[row]} ({len(seeds)} seeds)" if len(seeds) > 1 else TITLES[row]]
        for column in COLUMNS:
            values = [s[column] for s in seeds]
            spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}")
        cells.append(" / ".join(TABLE_2.get(VARIANTS.get(row, ""), ())))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    results: dict[str, list[dict[str, float]]] = {}
    select_entries(open_corpora(options.data), "validation")  # without these no row can be scored
    try:
        for row, seed in select_jobs(options):
            print(f"{TITLES[row]}, seed {seed}", file=sys.stderr, flush=True)
            results.setdefault(row, []).append(train_and_score(options, row, seed))
    except KeyboardInterrupt:
        print("stopped and saved; start the same command again to continue", file=sys.stderr)
        return 130
    print(table({row: results[row] for row in TITLES if row in results}))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    return run_command("kfusion-ablate", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
