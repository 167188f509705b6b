"""training.train with the small network of the tests under the name of the bundled preset."""

from __future__ import annotations

import sys

from kfusion import config
from tests.kfusion.test_model import SMALL
from training import train

config.PRESETS["compact"] = SMALL

if __name__ == "__main__":
    sys.exit(train.main())
