"""Measures one checkpoint on everything that a bundled model must do::

    python -m training.trial kfusion/weights/compact.safetensors --data DATA --out trial/

DATA holds the sets grid_s1, grid_others, mead_speech, speakers, mead_expressions, voices,
speechocean, librispeech and the table grid_s1_phones.tsv. Each figure stands beside its bound and
whether it holds. Bounds that do not hold do not change the exit status. --out gets trial.md and
trial.json.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from kfusion.coefficients import Rig
from kfusion.errors import DataError, run_command
from kfusion.landmarks import NEUTRAL_IDENTITY
from kfusion.life import HISTORY, Life
from kfusion.runtime import Animator
from training.bench.timing import interleaved
from training.export import random_inputs
from training.trial import accuracy, coefficients, emotion, robustness, silence, unseen_voices
from training.trial.model import HOP, TrialModel, open_engine
from training.trial.report import Section, Table

SPEED_SECONDS: Final = 5.0


def speed(model: TrialModel) -> Section:
    """Milliseconds per window at batch 1."""
    engine = model.animator.engine
    window = [part.astype(np.float32) for part in random_inputs(1, 1)]
    (times,) = interleaved([lambda: engine.step(*window)], SPEED_SECONDS)
    row = [engine.name, len(times), float(np.median(times)), float(np.percentile(times, 95))]
    head = ["engine", "windows", "median, ms", "95 % within, ms"]
    return Section(
        "speed",
        "One window at a time, on as many threads as --threads says, and what is computed from its "
        "three frames. No bound: it is the machine's as much as the model's.",
        tables=[Table("", head, [row]), after_the_model()],
    )


def after_the_model() -> Table:
    """Microseconds a frame of the coefficients and of life, for a hop of three frames."""
    moved = np.random.default_rng(1).normal(0, 4, (HOP, 68, 2)).astype(np.float32)
    rig, life = Rig(NEUTRAL_IDENTITY), Life(1, 1.0)
    levels = np.zeros(HISTORY + HOP)
    calls: dict[str, Callable[[], object]] = {
        "arkit52": lambda: rig.arkit52(moved),
        "vrm": lambda: rig.vrm(moved),
        "life": lambda: life.add(NEUTRAL_IDENTITY, 0, moved, levels),
    }
    times = interleaved(list(calls.values()), SPEED_SECONDS / 5)
    rows = [[name, 1e3 * float(np.median(ms)) / HOP] for name, ms in zip(calls, times, strict=True)]
    return Table("", ["per frame", "median, us"], rows)


SECTIONS: Final[dict[str, Callable[[TrialModel], Section]]] = {
    "accuracy": accuracy.measure,
    "silence": silence.measure,
    "robustness": robustness.measure,
    "unseen_voices": unseen_voices.measure,
    "emotion": emotion.measure,
    "coefficients": coefficients.measure,
    "speed": speed,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog="kfusion-trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", type=Path, help="a .safetensors checkpoint, or its .onnx")
    p.add_argument("--data", type=Path, required=True, help="folder of the sets")
    p.add_argument("--out", type=Path, metavar="FOLDER")
    p.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION",
                   help=f"of {', '.join(SECTIONS)}")  # fmt: skip
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args(argv)
    if a.threads < 1:
        p.error(f"--threads is {a.threads}; wanted 1 or more")
    given = sys.argv[1:] if argv is None else argv
    a.command = shlex.join(["python", "-m", "training.trial", *given])
    return a


def run(a: argparse.Namespace) -> None:
    torch.set_num_threads(a.threads)
    engine = open_engine(a.model, a.threads)
    if not a.data.is_dir():
        raise DataError(f"{a.data}: is no folder; wanted one with the sets of tracked speech")
    model = TrialModel(Animator(engine), a.data)
    about = {"command": a.command, "model": a.model.name, "engine": engine.name,
             "sha256": engine.sha256}  # fmt: skip
    head = f"# Trial of {a.model.name}\n\n`{a.command}`\n\n{engine.name}, sha256 {engine.sha256}"
    print(head)
    sections: list[Section] = []
    for name in a.only or SECTIONS:
        start = perf_counter()
        section = SECTIONS[name](model)
        section.seconds = perf_counter() - start
        sections.append(section)
        print(f"\n{section.markdown}", flush=True)
    total = f"\n{summary(sections)}"
    print(total)
    if a.out:
        text = "\n\n".join([head, *(s.markdown for s in sections)])
        write(a.out, f"{text}\n{total}\n", {**about, "sections": [s.json for s in sections]})


def summary(sections: Sequence[Section]) -> str:
    """How many bounds hold, and those that do not."""
    holding, total = sum(s.holding for s in sections), sum(len(s.checks) for s in sections)
    seconds = sum(s.seconds for s in sections)
    lines = ["## In short", "", f"{holding} of {total} bounds hold; measured in {seconds:.0f} s."]
    lines += [
        f"- {s.name}: {c.name}: {c.cells[1]}, wanted {c.bound}"
        for s in sections
        for c in s.checks
        if not c.holds
    ]
    return "\n".join(lines)


def write(out: Path, text: str, report: dict[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "trial.md").write_text(text, encoding="utf-8")
        (out / "trial.json").write_text(json.dumps(report, indent=1, allow_nan=False))
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error})") from None


def main(argv: Sequence[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-trial", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
