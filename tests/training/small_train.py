"""training.train with a network of width 16 under the name of the bundled preset."""

from __future__ import annotations

import sys
from dataclasses import replace

from kfusion import config
from tests.kfusion.test_model import SMALL
from training import train

TINY = replace(SMALL, width=16, feedforward=24, lstm_width=12, bottleneck=8, kan_hidden=6)

if __name__ == "__main__":
    config.PRESETS["compact"] = TINY
    sys.exit(train.main())
