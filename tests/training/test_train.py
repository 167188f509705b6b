"""The loop: it resumes with the same bits, spreads over processes, and says what stops it."""

import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kfusion.checkpoint import load_model
from kfusion.errors import CheckpointError, DataError
from tests.training.corpora import one_speaker, talking, write_corpus
from tests.training.small_train import TINY
from training import run as run_module
from training import train
from training.corpus.clips import Clip
from training.corpus.format import Corpus, fingerprint
from training.corpus.splits import Split
from training.models.losses import LossWeights
from training.models.networks import Network, configured
from training.phones import PHONE_INDEX, STEP_SAMPLES

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_speaker(tmp_path_factory.mktemp("data") / "c")


def options(corpus: Path, out: Path, steps: int, *more: str) -> list[str]:
    return ["--data", str(corpus), "--out", str(out), "--steps", str(steps), "--batch", "4",
            "--save-every", "3", "--device", "cpu", "--threads", "1", *more]  # fmt: skip


def run(corpus: Path, out: Path, steps: int, *more: str) -> Path:
    return train.train(train.arguments(options(corpus, out, steps, *more))).checkpoint


def run_until_killed(corpus: Path, out: Path, steps: int, *more: str, at: int) -> None:
    """As :func:`run`, but ended within a step: after its line of the log, before it is saved."""
    log = train.Run.log

    def log_and_stop(self: train.Run, step: int, row: dict[str, Any]) -> None:
        log(self, step, row)
        if step == at:
            raise InterruptedError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(train.Run, "log", log_and_stop)
        run(corpus, out, steps, *more)


def saved_step(out: Path) -> int:
    return int(torch.load(out / "state.pt", weights_only=True)["step"])


def same_bits(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def column(log: Path, name: str) -> list[str]:
    head, *rows = (line.split(",") for line in log.read_text().splitlines())
    return [row[head.index(name)] for row in rows]


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--phones", "0.1", "--ema", "0.9", "--warmup", "2", "--clip", "1", "--velocity", "1",
            "--mouth", "4", "--late", "2", "--swing", "0.3", "--kan-grid-at", "2",
            "--kan-l1", "0.1", "--augment", "gain", "noise", "speed", "pitch", "channel",
            "babble", "vtlp", "edges", "rest")  # fmt: skip
    monkeypatch.setattr(run_module, "LOG_EVERY", 2)
    whole, killed = run(corpus, tmp_path / "whole", 6, *more), tmp_path / "killed"
    run_until_killed(corpus, killed, 6, *more, at=5)
    assert saved_step(killed) == 3 and column(killed / "log.csv", "step") == ["1", "2", "4"]
    assert same_bits(whole, run(corpus, killed, 6, *more))
    assert column(killed / "log.csv", "step") == ["1", "2", "4", "6"]


def test_ctrl_c_saves_and_the_run_is_resumed_from_there(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    more = ("--save-every", "100", "--workers", "1")
    log = train.Run.log

    def interrupted(self: train.Run, step: int, row: dict[str, float]) -> None:
        log(self, step, row)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "log", interrupted)
        patch.setattr(sys, "argv", ["train", *options(corpus, out, 4, *more)])
        assert train.main() == 130
    assert "stopped and saved" in capsys.readouterr().err
    assert saved_step(out) == 3 and (out / "model.safetensors").exists()
    whole = run(corpus, tmp_path / "whole", 4, *more)
    assert same_bits(whole, run(corpus, out, 4, *more))


@pytest.mark.slow
def test_two_processes_follow_one_with_the_doubled_batch(corpus: Path, tmp_path: Path) -> None:
    """Over 15 steps without dropout, within 1e-4 relative (sums are taken in another order)."""
    more = ("--set", "dropout=0", "--augment", "edges", "noise", "--velocity", "1",
            "--lr", "1e-3", "--save-every", "50")  # fmt: skip
    one = load_file(run(corpus, tmp_path / "one", 15, *more, "--batch", "8"))
    arguments = options(corpus, tmp_path / "two", 15, *more, "--batch", "4")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.training.small_train", *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "model.safetensors")
    start = load_file(run(corpus, tmp_path / "start", 1, *more, "--batch", "8", "--lr", "1e-12"))
    for name, value in one.items():
        assert (two[name] - value).norm() <= 1e-4 * value.norm(), name
    name = "content_domain.context.out.weight"
    assert (one[name] - start[name]).norm() > 1e-2 * one[name].norm()  # far more than they differ


def test_the_learning_rate_is_the_papers_cosine(corpus: Path, tmp_path: Path) -> None:
    paper = train.arguments(["--data", str(corpus), "--out", str(tmp_path)])
    rates = [train.learning_rate(step, 1000, paper) for step in range(1001)]
    assert rates[0] == 3e-4 and abs(rates[1000] - 1e-6) < 1e-12
    assert abs(rates[500] - (3e-4 + 1e-6) / 2) < 1e-9
    assert all(later < earlier for earlier, later in pairwise(rates))  # at each step
    assert (paper.epochs, paper.batch, paper.lr) == (200, 32, 3e-4)
    assert (paper.warmup, paper.weight_decay, paper.clip, paper.ema) == (0, 0, 0, 0)
    assert paper.loss_weights == LossWeights() and paper.augment == ()
    warm = train.arguments(options(corpus, tmp_path, 100, "--warmup", "10"))
    assert train.learning_rate(4, 100, warm) == pytest.approx(1.5e-4)


def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run_until_killed(corpus, out, 6, at=4)
    before = (out / "state.pt").read_bytes()
    real = Corpus.sound

    def sound(self: Corpus, entry: Any, first: int, count: int) -> Any:
        samples = real(self, entry, first, count)
        if entry.name == "clip001":
            samples[5] = np.nan
        return samples

    monkeypatch.setattr(Corpus, "sound", sound)
    with pytest.raises(train.Diverged, match=r"step \d: the loss is nan; in its batch clip001 "):
        run(corpus, out, 6)
    assert (out / "state.pt").read_bytes() == before


def test_the_logs_the_plot_and_the_weights_are_there(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    checkpoint = run(corpus, out, 6, "--ema", "0.9", "--licence", "made here")
    model, provenance = load_model(checkpoint)
    assert model.config == TINY
    assert provenance["steps"] == 6 and provenance["licence"] == "made here"
    assert provenance["sha256"] == fingerprint(Corpus(corpus).select("train"))
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert column(out / "validation.csv", "step") == ["3", "6"]
    assert (out / "validation.csv").read_text().startswith("step,total,position,")
    assert (out / "log.csv").read_text().startswith("step,epoch,learning_rate,total,")


def test_training_learns_the_mouth_from_the_voice(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(corpus, out, 60, "--lr", "6e-3", "--augment", "edges", "--save-every", "30")
    first, last = map(float, column(out / "validation.csv", "total"))
    assert last < 0.7 * first


def with_phones(clip: Clip) -> Clip:
    """The clip with phones: an open vowel where it is loud, silence where it is not."""
    power = np.square(clip.audio).reshape(-1, STEP_SAMPLES).mean(1)
    track = np.where(power > power.mean(), PHONE_INDEX["AA"], PHONE_INDEX["SIL"]).astype(np.uint8)
    return replace(clip, phones=track)


def test_phones_are_learned_beside_the_face_and_leave_no_trace_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    clips = [with_phones(talking("a", 1)), talking("b", 2), talking("c", 3)]
    sides: dict[str, Split] = {"a": "train", "b": "train", "c": "validation"}
    corpus = write_corpus(tmp_path / "known", clips, sides)
    more = ("--phones", "1", "--lr", "1e-2", "--save-every", "100")
    whole = run(corpus, tmp_path / "whole", 20, *more)
    first, last = map(float, column(tmp_path / "whole" / "log.csv", "phones"))
    # Of 40 phones two occur, and one of the two train clips has none: less than log(40) / 2.
    assert last < 0.5 * first
    assert not [name for name in load_file(whole) if "phones" in name]
    one, without = (run(corpus, tmp_path / f"{k}", 1, *more[k:]) for k in (0, 2))
    assert not same_bits(one, without)
    with pytest.raises(DataError, match="--phones is for the Content Domain"):
        run(corpus, tmp_path / "chen", 1, "--phones", "1", "--network", "chen")


def test_bfloat16_trains(corpus: Path, tmp_path: Path) -> None:
    whole = load_file(run(corpus, tmp_path / "whole", 2))
    half = load_file(run(corpus, tmp_path / "half", 2, "--bf16"))
    assert all(half[k].dtype == whole[k].dtype for k in whole)
    assert any(not torch.equal(half[k], whole[k]) for k in whole)


def test_the_kans_grids_are_fitted_and_its_edges_thinned_on_request(
    corpus: Path, tmp_path: Path
) -> None:
    plain, fitted, thinned = (
        load_file(run(corpus, tmp_path / str(k), 3, "--lr", "1e-2", *more))
        for k, more in enumerate([(), ("--kan-grid-at", "2", "--ema", "0.5"), ("--kan-l1", "0.1")])
    )
    assert torch.equal(plain["head.inner.low"], thinned["head.inner.low"])
    assert not torch.equal(plain["head.inner.low"], fitted["head.inner.low"])
    assert not torch.equal(plain["head.inner.coef"], thinned["head.inner.coef"])
    assert float(column(tmp_path / "2" / "log.csv", "kan_l1")[0]) != 0


def test_a_run_may_begin_from_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "first", 6, "--lr", "1e-2")
    second = run(corpus, tmp_path / "second", 1, "--init", str(first), "--lr", "1e-12")
    one, other = load_file(first), load_file(second)
    assert all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)
    third = load_file(run(corpus, tmp_path / "third", 3, "--init", str(first), "--lr", "1e-2"))
    assert not torch.allclose(third["head.outer.coef"], one["head.outer.coef"], atol=1e-6)
    with pytest.raises(DataError, match="was begun with init"):
        run(corpus, tmp_path / "third", 3, "--init", str(second), "--lr", "1e-2")


def test_another_run_under_the_same_name_is_refused(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", 1)
    with pytest.raises(DataError, match=r"was begun with lr 0\.0003, not 0\.1"):
        run(corpus, tmp_path / "out", 1, "--lr", "0.1")
    sides: dict[str, Split] = {"other": "train", "held": "validation"}
    other = write_corpus(tmp_path / "other", [talking("other", 7), talking("held", 8)], sides)
    with pytest.raises(DataError, match="was begun on other data"):
        run(other, tmp_path / "out", 1)


@pytest.mark.parametrize("what", ["state", "checkpoint"])
def test_a_full_disk_is_told_and_the_run_is_resumed_from_the_saved_state(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    out = tmp_path / "out"
    run_until_killed(corpus, out, 6, at=4)
    before = (out / "state.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = run_module.save_network

    def save_network(path: Path, network: Network, provenance: dict[str, Any]) -> None:
        if what == "state":
            save(path, network, provenance)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # a disk that is full
        if what == "checkpoint":
            save(path, network, provenance)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_network", save_network)
        name = {"state": "state.pt", "checkpoint": "model.safetensors"}[what]
        try:
            with pytest.raises(DataError, match=f"{name}: cannot be written .*; the state saved"):
                run(corpus, out, 6)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "state.pt").read_bytes() == before and not list(out.glob("*.partial"))
    assert same_bits(run(corpus, tmp_path / "whole", 6), run(corpus, out, 6))


def test_without_a_held_out_side_it_trains_all_the_same(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", [talking("only", 1)], {"only": "train"})
    out = tmp_path / "out"
    assert run(corpus, out, 3).exists() and not (out / "validation.csv").exists()


def test_fields_of_the_network_may_be_set() -> None:
    changed = configured(TINY, ["dropout=0", "lstm_width=24", "cell=gru", "direct=true"])
    assert (changed.dropout, changed.lstm_width, changed.cell, changed.direct) == (
        0, 24, "gru", True,
    )  # fmt: skip
    assert configured(TINY, []) == TINY
    for wrong in ("depth=3", "lstm_width=wide", "cell=rnn", "lstm_width"):
        with pytest.raises(CheckpointError, match=f"model config: .*{wrong.partition('=')[0]}"):
            configured(TINY, [wrong])


@pytest.mark.parametrize("file", sorted((ROOT / "training" / "recipes").glob("*.args")))
def test_the_recipes_are_options_of_this_program(file: Path) -> None:
    options = train.arguments([f"@{file}", "--data", "d", "--out", "o"])
    assert options.steps and options.mouth == 4 and options.augment


def test_what_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert train.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("kfusion-train: ") and "no prepared corpus" in error
