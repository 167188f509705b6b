"""The benchmarks, on networks small enough to be counted by hand."""

import json
from dataclasses import replace
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
from training.bench.engine import ENGINES, peak_memory
from training.bench.flops import count_flops

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


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_work_of_a_window_is_what_a_hand_counts(cell: str) -> None:
    model = KFusion(replace(SMALL, cell=cell)).eval()
    gates = {"gru": 3, "lstm": 4}[cell]
    recurrent = 2 * 30 * 2 * gates * 24 * (32 + 24)  # two networks
    fft = 100 * 2.5 * 512 * 9
    splines = 30 * (136 + 12) * (2 + 11 * 13)
    assert count_flops(model) == hand_count(SMALL) + recurrent + fft + splines
    assert count_flops(model) == count_flops(model)  # no hook stays


def test_the_tables_have_a_row_a_cell_and_name_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = replace(SMALL, sound="raw", content="wav2vec2", wav2vec2=json.dumps(TINY_WAV2VEC2))
    networks = {"compact": SMALL, "paper": paper}
    for name, config in networks.items():
        save_model(tmp_path / f"{name}.safetensors", KFusion(config), {})
    monkeypatch.setattr(bench_model, "peak_memory", twelve)  # has a test of its own
    monkeypatch.setattr(timing, "TURN", 0.005)
    threads = torch.get_num_threads()
    files = {name: tmp_path / f"{name}.safetensors" for name in networks}
    blocks = bench_model.model_tables(files, ENGINES, [1, 3], 1, 0.05, "cpu").split("\n\n")
    torch.set_num_threads(threads)
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in blocks[1].splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        [f"{name}, torch", batch] for name in networks for batch in ("1", "3")
    ]
    for name, batch, ms, rate, work, _, yardstick, share, peak in rows:
        flops = count_flops(KFusion(networks[name.split(",")[0]]).eval()) / 1e9
        assert float(work) == pytest.approx(flops, abs=1e-3)
        assert float(rate) * float(ms) == pytest.approx(1e3 * int(batch), rel=0.02)
        expected = 100 * float(rate) * flops / float(yardstick)
        assert float(share.split()[0]) == pytest.approx(expected, abs=1) and peak == "12"
    assert "in turns with each cell" in blocks[2]
    name, *times = [c.strip() for c in blocks[3].splitlines()[2].split("|")[1:-1]]
    alone, whole, ratio = map(float, times)
    assert name == "paper" and ratio == pytest.approx(whole / alone, rel=0.1)
    assert blocks[4:] == [
        "compact in onnx: left out, there is no compact.onnx",
        "paper in onnx: left out, there is no paper.onnx",
    ]


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
