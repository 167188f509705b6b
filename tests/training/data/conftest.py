"""The corpora that the tests of windows share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.corpora import one_speaker, talking, write_corpus
from training.corpus.format import Corpus


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
