"""training.train with a network of width 16 under the name of the bundled preset."""

import sys
from dataclasses import replace
from typing import Final

from kfusion.config import PRESETS
from training import train

TINY: Final = replace(
    PRESETS["compact"],
    width=16,
    heads=2,
    feedforward=24,
    lstm_width=12,
    bottleneck=8,
    kan_hidden=6,
)

if __name__ == "__main__":
    PRESETS["compact"] = TINY
    sys.exit(train.main())
