"""Trains networks on the same data, seed and budget, scores them alike, and prints the tables::

    python -m training.ablate --data corpora/mead --out runs/table2
    python -m training.ablate --data corpora/mead --out runs/all --rows table1 table2 \\
        --seeds 1 2 3 --results results/ -- --steps 1500 --batch 32

The rows are those of the paper's Table 2 unless others are named: table1 is KFusion and re-made
rivals, beside the published rows. What stands after ``--`` goes to training.train, the same for
every row. A row is resumed where it stopped, and one whose scores are there is not made again:
start the same command again to go on. Several such commands may share the work with ``--only``;
the last prints the tables, which --out gets too, as tables.md and tables.json.

The scores of every clip are in ``ROW-SEED/scores.json``, or with ``--results FOLDER`` in
``FOLDER/ROW/SEED.json``; these files are enough to make the tables again, without the networks.
With ``--test CORPUS`` all clips of other corpora are scored instead of those held out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kfusion import __version__
from kfusion.errors import DataError, run_command
from kfusion.model import KFusion
from kfusion.system import file_sha256
from training import train
from training.corpus.format import Corpus, Entry, fingerprint, open_corpora, select_entries
from training.corpus.splits import check_no_leak
from training.evaluate import DEVICE, open_animator
from training.models.networks import (
    ABLATIONS,
    BASELINES,
    CHOICES,
    Network,
    NetworkEngine,
    load_network,
)
from training.scores.ablation_tables import NAMES, PROPOSED, AblationTables
from training.scores.branches import branch_shares
from training.scores.kept import KeptScores
from training.scores.modes import DEFAULT, Mode, paper_mode, parse_mode, with_labels
from training.scores.paper_tables import RIVALS
from training.scores.scoring import Closures, Model, Predict, read_closures, score_predictors

NETWORKS: Final = (*ABLATIONS, *CHOICES, *BASELINES)
GROUPS: Final = {
    "table1": [PROPOSED, *RIVALS],
    "table2": list(ABLATIONS),
    "choices": list(CHOICES),
    "baselines": list(BASELINES),
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kfusion-ablate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"kfusion {__version__}")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared corpora")
    parser.add_argument("--test", type=Path, nargs="+", metavar="CORPUS",
                        help="score all of its clips, not those held out of --data")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, metavar="FOLDER",
                        help="keeps the scores of the rows, apart from the runs")  # fmt: skip
    parser.add_argument("--rows", nargs="+", default=["table2"], choices=[*GROUPS, *NETWORKS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="*", metavar="ROW-SEED", help="make these now")
    parser.add_argument("--modes", type=parse_mode, nargs="+", default=list(DEFAULT),
                        metavar="HOP/LOOKAHEAD", help="frames")  # fmt: skip
    parser.add_argument("--phones", type=Path, help="table of clip, start_s, end_s, phone")
    parser.add_argument("--device", default=DEVICE)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("training", nargs="*", help="-- options of training.train")
    return parser.parse_args(argv)


def select_jobs(options: argparse.Namespace) -> list[tuple[str, int]]:
    """(row, seed), seed by seed; those of ``--only`` where it is given."""
    named = {row for name in options.rows for row in GROUPS.get(name, [name])}
    rows = [row for row in NETWORKS if row in named]
    jobs = {f"{row}-{seed}": (row, seed) for seed in options.seeds for row in rows}
    if options.only is None:
        return list(jobs.values())
    if unknown := [name for name in options.only if name not in jobs]:
        raise DataError(f"--only {', '.join(unknown)}; wanted some of {', '.join(jobs)}")
    return [jobs[name] for name in options.only]


@dataclass(frozen=True)
class Ablation:
    """What all rows have in common: the corpora, the clips held out, and the modes."""

    options: argparse.Namespace
    corpora: list[Corpus]
    scored_clips: list[tuple[Corpus, Entry]]
    modes: list[Mode]

    @classmethod
    def open(cls, options: argparse.Namespace) -> "Ablation":
        """Raises DataError without a clip to score."""
        corpora = open_corpora(options.data)
        if options.test:
            clips = select_entries([Corpus(folder) for folder in options.test], "all")
            check_test(corpora, [entry for _, entry in clips])
        else:
            clips = select_entries(corpora, "validation")
        modes = with_labels(options.modes, (entry.emotion for _, entry in clips))
        return cls(options, corpora, clips, modes)

    @property
    def measured_on(self) -> str:
        """The corpora of the scored clips, and their side of the split."""
        names = dict.fromkeys(corpus.header.source for corpus, _ in self.scored_clips)
        return f"{', '.join(names)} ({'all' if self.options.test else 'validation'})"

    @property
    def suffix(self) -> str:
        """Of the names of files: the corpora of --test."""
        return "".join(f"-{test.name}" for test in self.options.test or ())

    def scores(self, row: str, seed: int) -> KeptScores:
        """A row's scores at one seed; trained and scored only where they are not there."""
        options = self.options
        folder: Path = options.out / f"{row}-{seed}"
        path: Path = folder / f"scores{self.suffix}.json"
        if options.results:
            path = options.results / row / f"{seed}{self.suffix}.json"
        config = self._config(row, seed, folder)
        training, scored = self._training(config), self._scored()
        kept = KeptScores.read(path)
        if kept:
            kept.check_training(path, training, self._training(self._defaults(config)))
            if kept.scored == scored and all(str(mode) in kept.results for mode in self.modes):
                return kept
        trained = train.train(config)
        found = KeptScores(
            training, scored, file_sha256(trained.checkpoint),
            count_parameters(load_network(trained.checkpoint)[0]), {},
        )  # fmt: skip
        if kept and (kept.scored, kept.checkpoint) == (scored, found.checkpoint):
            found = replace(found, results=kept.results, branches=kept.branches)
        animator = open_animator(trained.checkpoint, options.device)
        missing: dict[str, Predict] = {
            str(mode): Model(animator, mode.hop, mode.lookahead, mode.labelled)
            for mode in self.modes
            if str(mode) not in found.results
        }
        clips = (corpus.clip(entry) for corpus, entry in self.scored_clips)
        results = score_predictors(clips, missing, self._closures())
        found = replace(found, results={**found.results, **results})
        if not found.branches and isinstance(animator.engine, NetworkEngine):
            found = replace(found, branches=self._branches(animator.engine.network))
        found.write(path)
        return found

    def _branches(self, network: Network) -> list[dict[str, Any]]:
        """What each branch of a KFusion adds, in the mode that stands for the paper."""
        if not isinstance(network, KFusion):
            return []
        mode = paper_mode(self.modes)
        shares = branch_shares(
            network,
            lambda: (corpus.clip(entry) for corpus, entry in self.scored_clips),
            mode.hop, mode.lookahead, labelled=mode.labelled,
        )  # fmt: skip
        return [share.json for share in shares]

    def _config(self, row: str, seed: int, folder: Path) -> train.TrainConfig:
        options = self.options
        return train.arguments([
            *options.training, "--network", row, "--seed", str(seed), "--out", str(folder),
            "--data", *map(str, options.data), "--threads", str(options.threads),
            "--device", options.device,
        ])  # fmt: skip

    def _defaults(self, config: train.TrainConfig) -> train.TrainConfig:
        return train.arguments(["--data", *map(str, config.data), "--out", str(config.out)])

    def _training(self, config: train.TrainConfig) -> dict[str, Any]:
        """The options that decide what a network learns, and the sha256 of its clips."""
        entries = (e for corpus in self.corpora for e in corpus.entries if e.split == "train")
        return json.loads(json.dumps({**config.settings(), "clips": fingerprint(entries)}))

    def _scored(self) -> dict[str, Any]:
        phones = self.options.phones
        return {
            "clips": fingerprint(entry for _, entry in self.scored_clips),
            "phones": file_sha256(phones) if phones else None,
        }

    def _closures(self) -> Closures | None:
        return read_closures(self.options.phones) if self.options.phones else None


def check_test(corpora: Sequence[Corpus], test: Sequence[Entry]) -> None:
    """Raises :class:`~training.corpus.splits.LeakError` for a clip or speaker trained on."""
    trained = [e for corpus in corpora for e in corpus.entries if e.split == "train"]
    check_no_leak(
        {"train": {e.speaker for e in trained}, "validation": {e.speaker for e in test}},
        {"train": {e.sha256 for e in trained}, "validation": {e.sha256 for e in test}},
    )


def count_parameters(network: Network) -> dict[str, int]:
    """Of the whole network, and of what training changes."""
    whole = sum(p.numel() for p in network.parameters())
    frozen = network.wav2vec2 if network.config.freeze_wav2vec2 else None
    without = sum(p.numel() for p in frozen.parameters()) if frozen is not None else 0
    return {"trainable": whole - without, "all": whole}


def run(options: argparse.Namespace) -> int:
    ablation = Ablation.open(options)
    kept: dict[str, list[KeptScores]] = {}
    try:
        for row, seed in select_jobs(options):
            print(f"{NAMES.get(row, row)}, seed {seed}", file=sys.stderr, flush=True)
            kept.setdefault(row, []).append(ablation.scores(row, seed))
    except KeyboardInterrupt:
        print("stopped and saved; start the same command again to continue", file=sys.stderr)
        return 130
    tables = AblationTables(
        {row: kept[row] for row in NETWORKS if row in kept},
        ablation.modes,
        ablation.measured_on,
        {k: GROUPS[f"table{k}"] for k in (1, 2) if f"table{k}" in options.rows},
    )
    print(tables.markdown)
    out: Path = options.out
    name = f"tables{ablation.suffix}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.md").write_text(tables.markdown, encoding="utf-8")
        (out / f"{name}.json").write_text(json.dumps(tables.json, indent=1, allow_nan=False))
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error})") from None
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    return run_command("kfusion-ablate", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
