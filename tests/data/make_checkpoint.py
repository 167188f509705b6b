"""Writes the example checkpoint that later versions must still load, and what it answers.

Run once, when the format changes; never to make a failing test pass.
"""

from pathlib import Path

import numpy as np
import torch

from kfusion.checkpoint import save_model
from kfusion.config import ModelConfig
from tests.kfusion.test_model import inputs, perturbed

HERE = Path(__file__).parent
TINY = ModelConfig(
    width=16, heads=2, feedforward=16, global_layers=1, content_layers=1, lstm_width=8,
    bottleneck=8, kan_hidden=6, kan_grid=4,
)  # fmt: skip

if __name__ == "__main__":
    model = perturbed(TINY)
    save_model(HERE / "kfusion-1.safetensors", model, {"command": "tests/data/make_checkpoint.py"})
    with torch.no_grad():
        answer = model.displacement(*inputs(2, seed=11)).numpy()
    np.save(HERE / "kfusion-1.npy", answer[:, ::10].astype(np.float32))
