"""The benchmarks, on networks small enough to be counted by hand."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from kfusion.checkpoint import save_model
from kfusion.config import ModelConfig
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS
from tests.kfusion.test_model import SMALL
from training.bench import model as bench_model
from training.bench import timing
from training.bench.__main__ import main
from training.bench.engine import peak_memory, preload_transformers
from training.bench.flops import count_flops
from training.bench.model import PARTS, Report
from training.bench.report import markdown

TINY_WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_kernel": [400, 2],
    "conv_stride": [160, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def twelve(*_: object) -> float:
    return 12.0


def saved(path: Path, config: ModelConfig) -> Path:
    torch.manual_seed(0)
    save_model(path, KFusion(config), {})
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A small network of each kind, in torch at two batch sizes."""
    folder = tmp_path_factory.mktemp("networks")
    preload_transformers()
    architecture = json.dumps(TINY_WAV2VEC2)
    paper = replace(SMALL, sound="raw", content="wav2vec2", wav2vec2=architecture)
    networks = {
        "compact": saved(folder / "compact.safetensors", SMALL),
        "paper": saved(folder / "paper.safetensors", paper),
    }
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_model, "peak_memory", twelve)  # has a test of its own
        patch.setattr(timing, "TURN", 0.005)
        made = bench_model.measure(networks, batches=(1, 3), threads=1, seconds=0.05)
    torch.set_num_threads(threads)
    return made


def hand_count(c: ModelConfig) -> int:
    """Two for each multiply-add, from the shapes in the paper's order."""
    w, ff, h = c.width, c.feedforward, c.lstm_width

    def attention(asked: int, known: int) -> int:
        products = asked * w * w + known * w * 2 * w + asked * w * w
        return 2 * products + 2 * 2 * asked * known * w

    def encoder(steps: int) -> int:
        return attention(steps, steps) + 2 * 2 * steps * w * ff

    def decoder(features: int) -> int:
        layer = attention(30, 30) + encoder(30)
        return 2 * features * w + c.decoder_layers * layer + 2 * 30 * w * features

    stem = 2 * 100 * 3 * c.mels * w + 2 * 50 * 3 * w * w
    to_frames = 2 * 30 * 50 * w + 2 * 30 * 3 * w * w
    mel = 2 * 100 * 257 * c.mels
    of_global = stem + c.global_layers * encoder(50) + to_frames + decoder(136) + decoder(40)
    of_content = stem + c.content_layers * encoder(50) + 2 * 8 * w
    of_content += c.context_layers * encoder(50) + to_frames + decoder(136)
    of_content += to_frames + 2 * 30 * h * (136 + 40)
    of_content += 2 * 136 * w  # who, for the LSTMs
    b, face, mouth = c.bottleneck, 4 * 136, 3 * 40
    fusion = 2 * 30 * (face * b + 3 * b * b + b * 96 + face * 96)
    fusion += 2 * 30 * (mouth * b + 3 * b * b + b * 40 + mouth * 40)
    kan = 2 * 30 * 2 * 136 * c.kan_hidden * (1 + c.kan_grid + 3)
    return mel + of_global + of_content + fusion + kan


def test_the_work_of_a_window_is_what_a_hand_counts() -> None:
    flops = count_flops(KFusion(SMALL).eval())
    assert flops.counted == hand_count(SMALL)
    assert flops.lstm == 2 * 30 * 2 * 3 * 24 * (32 + 24)  # two GRUs of three gates
    assert flops.fft == 100 * 2.5 * 512 * 9
    assert flops.splines == 30 * (136 + 12) * (2 + 11 * 13)
    assert flops.total == flops.counted + flops.lstm + flops.fft + flops.splines


def test_an_lstm_has_four_gates() -> None:
    lstm = count_flops(KFusion(replace(SMALL, cell="lstm")).eval()).lstm
    assert lstm == 2 * 30 * 2 * 4 * 24 * (32 + 24)


def test_counting_leaves_the_network_as_it_was() -> None:
    model = KFusion(SMALL).eval()
    once = count_flops(model)
    assert count_flops(model) == once
    assert not any(p.requires_grad is False or p.grad is not None for p in model.parameters())


def test_without_lstm_and_kan_nothing_of_them_is_counted() -> None:
    flops = count_flops(KFusion(replace(SMALL, lstm=False, head="mlp")).eval())
    assert flops.lstm == flops.splines == 0 < flops.counted


def test_a_report_has_every_cell_with_values_that_fit(report: Report) -> None:
    document = json.loads(json.dumps(asdict(report)))
    assert set(document) == {
        "machine", "yardstick", "networks", "cells", "alone", "notes",
    }  # fmt: skip
    cells = [(c.preset, c.engine, c.batch) for c in report.cells]
    assert cells == [(p, "torch", b) for p in ("compact", "paper") for b in (1, 3)]
    work = {n.preset: n.window_flops for n in report.networks}
    for c in report.cells:
        assert c.repetitions >= 3 and c.peak_mib == 12.0
        assert math.isclose(c.windows_per_s * c.step_ms, 1e3 * c.batch)
        assert math.isclose(c.gflops_per_s, c.windows_per_s * work[c.preset] / 1e9)
        assert 0 < c.of_yardstick_percent < 1000
    for n in report.networks:
        assert n.window_flops == n.flops.total > 0
        assert n.checkpoint_bytes > 4 * n.parameters  # the biggest part of a file
        assert n.shares is not None and tuple(n.shares) == PARTS
        assert all(0 <= s <= 1 for s in n.shares.values())
        assert min(n.shares[p] for p in PARTS if p != "other") > 0
    (alone,) = report.alone
    assert alone.preset == "paper" and math.isclose(alone.ratio, alone.whole_ms / alone.wav2vec2_ms)


def test_what_has_no_onnx_is_said_and_left_out(report: Report) -> None:
    assert report.notes == [
        "compact in onnx: left out, there is no compact.onnx",
        "paper in onnx: left out, there is no paper.onnx",
    ]


def test_the_table_is_markdown_with_a_row_a_cell(report: Report) -> None:
    lines = markdown(report).splitlines()
    rows = [line for line in lines if line.startswith(("| compact, torch", "| paper, torch"))]
    assert len(rows) == len(report.cells)
    blocks = "\n".join(lines).split("\n\n")
    for block in blocks:
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert blocks[-1] == report.notes[-1]


def test_calls_take_turns_and_are_measured_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TURN", 0.002)
    order: list[str] = []
    times = timing.interleaved([lambda: order.append("a"), lambda: order.append("b")], 0.0)
    assert all(len(t) >= 3 for t in times)
    assert order[:4] == ["a", "a", "b", "b"]  # each is warmed up
    turns = "".join(
        k for k, before in zip(order[4:], ["", *order[4:]], strict=False) if k != before
    )
    assert turns == "ab" * (len(turns) // 2) and len(turns) >= 2


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")
def test_the_memory_of_a_cell_is_its_own_and_more_than_its_weights() -> None:
    pytest.importorskip("onnxruntime")
    held = bytearray(b"1" * (400 * 2**20))  # what this process holds is not the cell's
    peak = peak_memory(WEIGHTS, "onnx", 1, 1, "cpu")
    assert peak is not None and WEIGHTS.stat().st_size / 2**20 < peak < len(held) / 2**20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--presets", "large"], "preset 'large' is unknown; wanted compact or paper"),
        (["--engines", "abacus"], "engine 'abacus' is unknown; wanted onnx or torch"),
        (["--batches", "0"], "must be above 0"),
        (["--device", "cuda:99", "--seconds", "0.01"], "device 'cuda:99' cannot be used"),
    ],
)
def test_what_cannot_be_measured_is_a_plain_error(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "--presets", "compact", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("bench: ") and says in shown.err and not shown.out
