"""A small network for the tests of training, and one thread for torch: the threads of a small
network mostly wait for each other.
"""

from __future__ import annotations

import os

import pytest
import torch

from kfusion import config
from tests.training.small_train import TINY

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset ``compact`` is a network of width 16."""
    monkeypatch.setitem(config.PRESETS, "compact", TINY)
