"""The loop: it resumes with the same bits, spreads over processes, and says what stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kfusion import config
from kfusion.checkpoint import load_model
from kfusion.errors import CheckpointError, DataError
from tests.kfusion.test_model import PAPER, SMALL, TINY_WAV2VEC2, Wav2Vec2Model
from tests.training.corpora import one_speaker, talking, write_corpus
from training import train
from training.corpus.clips import Clip
from training.corpus.format import Corpus, fingerprint
from training.corpus.splits import Split
from training.phones import INDEX, STEP

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_speaker(tmp_path_factory.mktemp("data") / "c")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.PRESETS, "compact", SMALL)


def options(corpus: Path, out: Path, steps: int, *more: str) -> list[str]:
    return ["--data", str(corpus), "--out", str(out), "--steps", str(steps), "--batch", "4",
            "--save-every", "3", "--device", "cpu", "--threads", "1", *more]  # fmt: skip


def run(corpus: Path, out: Path, steps: int, *more: str) -> Path:
    return train.train(train.arguments(options(corpus, out, steps, *more))).checkpoint


def same_bits(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.training.small_train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def wait_for(file: Path, process: subprocess.Popen[str], lines: int) -> None:
    """Until a log has as many lines. The process is watched, and the wait has an end."""
    end = time.monotonic() + 120
    while not file.exists() or len(file.read_text().splitlines()) < lines:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


ALL_OF_IT = ("--phones", "0.1", "--ema", "0.9", "--warmup", "2", "--clip", "1", "--velocity", "1",
             "--mouth", "4", "--late", "2", "--swing", "0.3",
             "--augment", "gain", "noise", "speed", "pitch", "channel",
             "babble", "vtlp", "edges", "rest")  # fmt: skip


@pytest.mark.usefixtures("small")
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    steps = 40
    whole = run(corpus, tmp_path / "whole", steps, *ALL_OF_IT)
    killed = tmp_path / "killed"
    process = program(*options(corpus, killed, steps, *ALL_OF_IT))
    wait_for(killed / "validation.csv", process, 3)
    process.kill()  # SIGKILL: nothing is told, nothing is saved
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    at = int(torch.load(killed / "state.pt", weights_only=True)["step"])
    assert 0 < at < steps
    assert same_bits(whole, run(corpus, killed, steps, *ALL_OF_IT))
    rows = [line.split(",")[0] for line in (killed / "log.csv").read_text().splitlines()]
    assert rows == ["step", "1", "20", "40"]


@pytest.mark.usefixtures("small")
def test_ctrl_c_saves_and_the_run_goes_on_from_there(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ("--save-every", "100000", "--workers", "1")
    process = program(*options(corpus, out, 2000, *more))
    wait_for(out / "log.csv", process, 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped and saved" in said and "Traceback" not in said
    at = int(torch.load(out / "state.pt", weights_only=True)["step"])
    assert at >= 1 and (out / "model.safetensors").exists()


@pytest.mark.usefixtures("small")
def test_two_processes_follow_one_with_the_doubled_batch(corpus: Path, tmp_path: Path) -> None:
    """Over 50 steps without dropout, within 1e-4 relative (sums are taken in another order)."""
    more = ("--set", "dropout=0", "--augment", "edges", "noise", "--velocity", "1",
            "--save-every", "50")  # fmt: skip
    one = load_file(run(corpus, tmp_path / "one", 50, *more, "--batch", "8"))
    arguments = options(corpus, tmp_path / "two", 50, *more, "--batch", "4")
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


@pytest.mark.usefixtures("small")
def test_the_learning_rate_is_the_papers_cosine(corpus: Path, tmp_path: Path) -> None:
    a = train.arguments(options(corpus, tmp_path, 100))
    rates = [train.learning_rate(step, 100, a) for step in range(101)]
    assert rates[0] == 3e-4 and abs(rates[100] - 1e-6) < 1e-12
    assert abs(rates[50] - (3e-4 + 1e-6) / 2) < 1e-9 and rates == sorted(rates, reverse=True)
    assert (a.epochs, a.velocity, a.mouth, a.ema, a.augment) == (200, 0, 1, 0, [])
    warm = train.arguments(options(corpus, tmp_path, 100, "--warmup", "10"))
    assert train.learning_rate(4, 100, warm) == pytest.approx(1.5e-4)


@pytest.mark.usefixtures("small")
def test_epochs_make_steps(corpus: Path, tmp_path: Path) -> None:
    a = train.arguments(["--data", str(corpus), "--out", str(tmp_path / "out"), "--epochs", "2",
                         "--batch", "4", "--threads", "1", "--device", "cpu"])  # fmt: skip
    assert train.train(a).steps == 3  # 2 epochs of 6 windows, 4 a step


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(corpus, out, 3)
    before = (out / "state.pt").read_bytes()
    broken = out / "broken"
    real = Corpus.sound

    def sound(self: Corpus, entry: object, first: int, count: int) -> object:
        made = real(self, entry, first, count)  # pyright: ignore[reportArgumentType]
        if getattr(entry, "name", "") == "clip001":
            made[5] = np.nan
        return made

    monkeypatch.setattr(Corpus, "sound", sound)
    with pytest.raises(train.Diverged, match=r"step \d: the loss is nan; in its batch clip001 "):
        run(corpus, broken, 6)
    assert not (broken / "model.safetensors").exists()
    assert (out / "state.pt").read_bytes() == before


@pytest.mark.usefixtures("small")
def test_the_logs_the_plot_and_the_weights_are_there(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    checkpoint = run(corpus, out, 6, "--ema", "0.9", "--licence", "made here")
    model, provenance = load_model(checkpoint)
    assert model.config == SMALL
    assert provenance["steps"] == 6 and provenance["licence"] == "made here"
    assert provenance["sha256"] == fingerprint(Corpus(corpus).select("train"))
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").glob("events.*"))
    head, *rows = (out / "validation.csv").read_text().splitlines()
    assert head.split(",")[:2] == ["step", "total"] and [r.split(",")[0] for r in rows] == [
        "3",
        "6",
    ]
    assert (out / "log.csv").read_text().startswith("step,epoch,learning_rate,total,")


@pytest.mark.usefixtures("small")
def test_training_learns_the_mouth_from_the_voice(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(corpus, out, 60, "--lr", "3e-3", "--augment", "edges", "--save-every", "20")
    rows = (out / "validation.csv").read_text().splitlines()[1:]
    first, last = (float(row.split(",")[1]) for row in (rows[0], rows[-1]))
    assert last < 0.7 * first


def spelled(clip: Clip) -> Clip:
    """The clip with phones: an open vowel where it is loud, silence where it is not."""
    power = np.square(clip.audio).reshape(-1, STEP).mean(1)
    track = np.where(power > power.mean(), INDEX["AA"], INDEX["SIL"]).astype(np.uint8)
    return replace(clip, phones=track)


@pytest.mark.usefixtures("small")
def test_phones_are_learned_beside_the_face_and_leave_no_trace_in_the_checkpoint(
    corpus: Path, tmp_path: Path
) -> None:
    clips = [spelled(talking("a", 1)), talking("b", 2), talking("c", 3)]
    sides: dict[str, Split] = {"a": "train", "b": "train", "c": "validation"}
    known = write_corpus(tmp_path / "known", clips, sides)
    more = ("--phones", "1", "--ema", "0.9", "--lr", "3e-3")
    whole = run(known, tmp_path / "whole", 20, *more)
    log = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    column = log[0].split(",").index("phones")
    first, last = (float(row.split(",")[column]) for row in (log[1], log[-1]))
    # Of 40 phones two occur, and one of the two train clips has none: less than log(40) / 2.
    assert last < 0.5 * first
    assert not [name for name in load_file(whole) if "phones" in name]
    assert not same_bits(whole, run(known, tmp_path / "without", 20, *more[2:]))
    with pytest.raises(DataError, match="--phones is for the Content Domain"):
        run(known, tmp_path / "chen", 1, "--phones", "1", "--network", "chen")


@pytest.mark.usefixtures("small")
def test_bfloat16_trains(corpus: Path, tmp_path: Path) -> None:
    whole = load_file(run(corpus, tmp_path / "whole", 2))
    half = load_file(run(corpus, tmp_path / "half", 2, "--bf16"))
    assert all(half[k].dtype == whole[k].dtype for k in whole)
    assert any(not torch.equal(half[k], whole[k]) for k in whole)


@pytest.mark.usefixtures("small")
def test_the_kans_grids_are_fitted_and_its_edges_thinned_on_request(
    corpus: Path, tmp_path: Path
) -> None:
    plain = load_file(run(corpus, tmp_path / "plain", 3))
    fitted = load_file(run(corpus, tmp_path / "fitted", 3, "--kan-grid-at", "2", "--ema", "0.5"))
    thinned = load_file(run(corpus, tmp_path / "thinned", 3, "--kan-l1", "0.1", "--lr", "1e-2"))
    assert torch.equal(plain["head.inner.low"], thinned["head.inner.low"])
    assert not torch.equal(plain["head.inner.low"], fitted["head.inner.low"])
    assert not torch.equal(plain["head.inner.coef"], thinned["head.inner.coef"])


@pytest.mark.usefixtures("small")
def test_a_run_may_begin_from_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "first", 6, "--lr", "1e-2")
    second = run(corpus, tmp_path / "second", 1, "--init", str(first), "--lr", "1e-12")
    one, other = load_file(first), load_file(second)
    assert all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)
    third = load_file(run(corpus, tmp_path / "third", 3, "--init", str(first), "--lr", "1e-2"))
    assert not torch.allclose(third["head.outer.coef"], one["head.outer.coef"], atol=1e-6)
    with pytest.raises(DataError, match="was begun with init"):
        run(corpus, tmp_path / "third", 3, "--init", str(second), "--lr", "1e-2")


def test_the_paper_preset_trains_from_a_local_wav2vec2(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(config.PRESETS, "paper", PAPER)
    source = tmp_path / "wav2vec2"
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(source)
    more = ("--preset", "paper", "--wav2vec2", str(source), "--ema", "0.9")
    frozen = load_file(run(corpus, tmp_path / "frozen", 2, *more))
    free = load_file(run(corpus, tmp_path / "free", 2, *more, "--finetune"))
    name = next(k for k in frozen if k.endswith("feature_projection.projection.weight"))
    pretrained = load_file(source / "model.safetensors")
    assert torch.equal(frozen[name], pretrained[name.removeprefix("wav2vec2.model.")])
    assert not torch.equal(free[name], frozen[name])
    # Its own masks and skipped layers would be drawn where no seed reaches.
    stopped = tmp_path / "stopped"
    real, saves = train.Run.save, []

    def once(*a: object, **k: object) -> None:
        saves.append(a)
        real(*a, **k)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    options = (*more, "--finetune", "--save-every", "1")
    whole = run(corpus, tmp_path / "whole", 2, *options)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(train.Run, "save", once)
        run(corpus, stopped, 2, *options)
    assert len(saves) == 1
    assert same_bits(whole, run(corpus, stopped, 2, *options))


@pytest.mark.usefixtures("small")
def test_another_run_under_the_same_name_is_refused(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", 1)
    with pytest.raises(DataError, match=r"was begun with lr 0\.0003, not 0\.1"):
        run(corpus, tmp_path / "out", 1, "--lr", "0.1")
    sides = {"other": "train", "held": "validation"}
    clips = [talking("other", 7), talking("held", 8)]
    other = write_corpus(tmp_path / "other", clips, sides)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="was begun on other data"):
        run(other, tmp_path / "out", 1)


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_told_and_the_saved_state_stays(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = program(*options(corpus, out, 2000))
    wait_for(out / "validation.csv", process, 2)
    process.kill()
    process.communicate()
    before = (out / "state.pt").read_bytes()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    code = limit + "import sys; from tests.small_train import train; sys.exit(train.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *options(corpus, out, 2000)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "kfusion-train: " in done.stderr, done.stderr
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert (out / "state.pt").read_bytes() == before and not list(out.glob("*.partial"))


@pytest.mark.usefixtures("small")
def test_a_checkpoint_that_could_not_be_written_is_made_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(corpus, tmp_path / "whole", 4)
    real, out = train.save_network, tmp_path / "out"

    def full(path: Path, network: train.Network, made: dict[str, object]) -> None:
        if made["steps"] == 4:
            raise OSError(28, "No space left on device")
        real(path, network, made)

    with monkeypatch.context() as patched, pytest.raises(DataError, match="No space"):
        patched.setattr(train, "save_network", full)
        run(corpus, out, 4)
    assert same_bits(whole, run(corpus, out, 4))


@pytest.mark.usefixtures("small")
def test_without_a_held_out_side_it_trains_all_the_same(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", [talking("only", 1)], {"only": "train"})
    out = tmp_path / "out"
    assert run(corpus, out, 3).exists() and not (out / "validation.csv").exists()


def test_fields_of_the_network_may_be_set() -> None:
    config = train.configured(SMALL, ["dropout=0", "lstm_width=24", "cell=gru", "direct=true"])
    assert (config.dropout, config.lstm_width, config.cell, config.direct) == (0, 24, "gru", True)
    assert train.configured(SMALL, []) == SMALL
    for wrong in ("depth=3", "lstm_width=wide", "cell=rnn", "lstm_width"):
        with pytest.raises(CheckpointError, match=f"model config: .*{wrong.partition('=')[0]}"):
            train.configured(SMALL, [wrong])


def test_options_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("--steps 7 --lr 1e-3\n--augment gain noise=0.2\n")
    a = train.arguments([f"@{file}", "--data", "d", "--out", "o"])
    assert (a.steps, a.lr, a.augment) == (7, 1e-3, ["gain", "noise=0.2"])


def test_what_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert train.main() == 2
    assert "no prepared corpus" in capsys.readouterr().err
