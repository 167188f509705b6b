"""Writes a checkpoint's network as ONNX beside it, for servers without torch::

    python -m training.export [--checkpoint model.safetensors]
    python -m training.export --checkpoint model.safetensors --whole FILE

The graph starts at the power spectrum (NumPy's, kfusion/layers/mel.py: a Fourier transform inside
it would be slower, or as a matrix product less exact) and gives displacements; its metadata holds
the checkpoint's sha256 and configuration. It is written only if it agrees with torch. ``--whole``
writes a checkpoint that names its wav2vec2 as one file with wav2vec2's weights instead.
"""

import argparse
import json
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from kfusion.checkpoint import load_model, save_model
from kfusion.config import WINDOW
from kfusion.errors import CheckpointError, run_command
from kfusion.landmarks import NEUTRAL
from kfusion.layers.blocks import Attention
from kfusion.layers.encoder import normalised
from kfusion.layers.mel import FLOOR, N_FFT, mel_filters
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, OnnxEngine, TorchEngine
from kfusion.system import file_sha256

TOLERANCE_PX: Final = 1e-4


class OnnxAttention(Attention):
    """Attention as ONNX's own operator, which takes (B, T, d) as it lies: no transposes."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.onnx.ops.attention(q, k, v, q_num_heads=self.heads, kv_num_heads=self.heads)
        return out[0]


class FromPower(nn.Module):
    """The network behind the power spectrum.

    ``power`` (B, 100, 257), ``identity`` (B, 68, 2), ``emotion`` (B, 8) -> (B, 30, 68, 2).
    """

    filters: Tensor

    def __init__(self, model: KFusion) -> None:
        super().__init__()
        self.model = model
        # log(x + FLOOR) as log(x / FLOOR + 1) + log(FLOOR): the exporter's optimizer takes a
        # constant of 1e-8 for zero and drops the addition.
        filters = torch.from_numpy(mel_filters(model.config.mels)) / FLOOR
        self.register_buffer("filters", filters)
        for module in model.modules():
            if isinstance(module, Attention):
                module.__class__ = OnnxAttention

    def forward(self, power: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        mel = normalised(torch.log(power @ self.filters + 1) + math.log(FLOOR))
        return self.model.decode(mel, mel, identity, emotion)


def random_inputs(rows: int, seed: int) -> tuple[Any, Any, Any]:
    """Windows like speech, faces and emotions: (B, 16000), (B, 68, 2), (B, 8)."""
    rng = np.random.default_rng(seed)
    shape = np.repeat(rng.uniform(0, 1, (rows, 20)), WINDOW // 20, axis=1)
    audio = shape * rng.normal(0, 0.2, (rows, WINDOW))
    return audio, NEUTRAL + rng.normal(0, 2, (rows, 68, 2)), rng.dirichlet(np.ones(8), rows)


def export(checkpoint: Path) -> tuple[Path, float]:
    """Writes checkpoint.onnx, whole or not at all; its path and largest difference from torch in
    pixels.

    Raises :class:`~kfusion.errors.CheckpointError` where it differs by more than
    :data:`TOLERANCE_PX`.
    """
    model, _ = load_model(checkpoint)
    c = model.config
    if (c.sound, c.content) != ("mel", "mel"):
        raise CheckpointError(f"{checkpoint}: hears {c.sound} and {c.content}; only mel exports")
    example = (torch.rand(2, 100, N_FFT // 2 + 1), torch.randn(2, 68, 2), torch.rand(2, 8))
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            FromPower(model),
            example,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
            input_names=["power", "identity", "emotion"],
            output_names=["displacement"],
            opset_version=23,  # the first with Attention
            verbose=False,
        )
    assert program is not None
    program.optimize()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces with this machine's paths
    metadata = program.model.metadata_props
    metadata["kfusion_sha256"] = file_sha256(checkpoint)
    metadata["kfusion_config"] = json.dumps(c.to_dict(), sort_keys=True)
    target = checkpoint.with_suffix(".onnx")
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        draft = Path(folder) / target.name
        program.save(draft, external_data=False)
        worst = largest_difference(checkpoint, draft)
        if worst > TOLERANCE_PX:
            raise CheckpointError(f"{target}: differs from torch by {worst:.2g} px; not written")
        draft.replace(target)
    return target, worst


def largest_difference(checkpoint: Path, exported: Path) -> float:
    """The largest difference in pixels over batches of several sizes."""
    ours, theirs = OnnxEngine(exported), TorchEngine(checkpoint)
    worst = 0.0
    for rows in (1, 2, 5, 16):
        row = random_inputs(rows, rows)
        worst = max(worst, float(np.abs(ours.step(*row) - theirs.step(*row)).max()))
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    parser.add_argument("--whole", type=Path, metavar="FILE", help="the same with wav2vec2 in it")
    options = parser.parse_args(argv)

    def run() -> None:
        if options.whole:
            save_model(options.whole, *load_model(options.checkpoint), whole=True)
            print(options.whole)
            return
        path, difference = export(options.checkpoint)
        print(f"{path}: within {difference:.1e} px of torch")

    return run_command("export", run)


if __name__ == "__main__":
    raise SystemExit(main())
