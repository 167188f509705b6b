"""Measures one checkpoint on everything that a bundled model must do::

    python -m training.trial kfusion/weights/compact.safetensors --data DATA --out trial/

DATA holds the sets grid_s1, grid_others, grid_more, mead_speech, speakers, mead_expressions,
voices, speechocean, librispeech and the table grid_s1_phones.tsv. Each figure stands beside its
bound and whether it holds. Bounds that do not hold do not change the exit status. --out gets
trial.md.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import torch

from kfusion.errors import DataError, run_command
from kfusion.runtime import Animator
from training.trial import accuracy, coefficients, emotion, robustness, silence, unseen_voices
from training.trial.model import TrialModel, open_engine
from training.trial.report import Section

SECTIONS: Final[dict[str, Callable[[TrialModel], Section]]] = {
    "accuracy": accuracy.measure,
    "silence": silence.measure,
    "robustness": robustness.measure,
    "unseen_voices": unseen_voices.measure,
    "emotion": emotion.measure,
    "coefficients": coefficients.measure,
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
        try:
            a.out.mkdir(parents=True, exist_ok=True)
            (a.out / "trial.md").write_text(f"{text}\n{total}\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{a.out}: cannot be written ({error})") from None


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


def main(argv: Sequence[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-trial", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
