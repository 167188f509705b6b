"""Writes a checkpoint's network as ONNX beside it, for servers without torch::

    python -m training.export [--checkpoint model.safetensors]

The graph starts at log-mel (NumPy's, kfusion/mel.py) and gives displacements; its metadata holds
the checkpoint's sha256 and configuration. It is written only if it agrees with torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from kfusion.checkpoint import load_model
from kfusion.config import WINDOW
from kfusion.errors import CheckpointError, KFusionError
from kfusion.landmarks import NEUTRAL
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, OnnxEngine, TorchEngine, file_sha256

TOLERANCE_PX: Final = 1e-4


class FromMel(nn.Module):
    """The network behind log-mel: mel (B, 100, mels), identity (B, 68, 2), emotion (B, 8)."""

    def __init__(self, model: KFusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        return self.model.respond(mel, mel, identity, emotion)


def inputs(rows: int, seed: int) -> tuple[Any, Any, Any]:
    """Windows like speech, faces and emotions: (B, 16000), (B, 68, 2), (B, 8)."""
    rng = np.random.default_rng(seed)
    shape = np.repeat(rng.uniform(0, 1, (rows, 20)), WINDOW // 20, axis=1)
    audio = shape * rng.normal(0, 0.2, (rows, WINDOW))
    return audio, NEUTRAL + rng.normal(0, 2, (rows, 68, 2)), rng.dirichlet(np.ones(8), rows)


def export(checkpoint: Path) -> Path:
    """Writes checkpoint.onnx; whole and equal to torch, or not at all."""
    model, _ = load_model(checkpoint)
    c = model.config
    if (c.sound, c.content) != ("mel", "mel"):
        raise CheckpointError(f"{checkpoint}: hears {c.sound} and {c.content}; only mel exports")
    example = (torch.randn(2, 100, c.mels), torch.randn(2, 68, 2), torch.rand(2, 8))
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            FromMel(model),
            example,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
            input_names=["mel", "identity", "emotion"],
            output_names=["displacement"],
            verbose=False,
        )
    assert program is not None
    program.optimize()
    metadata = program.model.metadata_props
    metadata["kfusion_sha256"] = file_sha256(checkpoint)
    metadata["kfusion_config"] = json.dumps(c.to_dict(), sort_keys=True)
    target = checkpoint.with_suffix(".onnx")
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        draft = Path(folder) / target.name
        program.save(draft, external_data=False)
        worst = compare(checkpoint, draft)
        if worst > TOLERANCE_PX:
            raise CheckpointError(f"{target}: differs from torch by {worst:.2g} px; not written")
        draft.replace(target)
    print(f"{target}: within {worst:.1e} px of torch")
    return target


def compare(checkpoint: Path, exported: Path) -> float:
    """The largest difference in pixels over batches of several sizes."""
    ours, theirs = OnnxEngine(exported), TorchEngine(checkpoint)
    worst = 0.0
    for rows in (1, 2, 5, 16):
        row = inputs(rows, rows)
        worst = max(worst, float(np.abs(ours.step(*row) - theirs.step(*row)).max()))
    return worst


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    p.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    a = p.parse_args()
    try:
        export(a.checkpoint)
    except KFusionError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
