"""What the client's tests share."""

import sys

import pytest

from tests.client.fake_sounddevice import FakeSounddevice


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    """The sound devices of this machine, as the client sees them."""
    fake = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake
