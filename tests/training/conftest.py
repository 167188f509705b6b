"""A small network and corpora for the tests of training, and one thread for torch: the threads of
a small network mostly wait for each other.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from kfusion import config
from tests.training.corpora import one_speaker, talking, write_corpus
from tests.training.small_train import TINY
from training.corpus.format import Corpus

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset ``compact`` is a network of width 16."""
    monkeypatch.setitem(config.PRESETS, "compact", TINY)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(one_speaker(tmp_path_factory.mktemp("data") / "c", training=4, seconds=2.5))


@pytest.fixture(scope="module")
def phone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Clips with phones, never silence, another every 10 ms; the last lacks them."""
    clips = [talking(f"clip{k:03d}", k, 2.5) for k in range(4)]
    for k in range(3):
        track = (1 + (np.arange(250) + 7 * k) % 39).astype(np.uint8)
        clips[k] = replace(clips[k], phones=track)
    folder = tmp_path_factory.mktemp("data") / "c"
    return Corpus(write_corpus(folder, clips, {c.name: "train" for c in clips}))
