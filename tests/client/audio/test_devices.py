"""Choosing a sound device, and what is missing where there is none."""

import builtins
import sys
from collections.abc import Callable
from typing import Any

import pytest

from client.__main__ import main
from client.audio.devices import Kind, choose_device
from client.audio.microphone import Microphone
from client.audio.speaker import Speaker
from kfusion.errors import MicrophoneError, MissingExtra, SpeakerError
from tests.client.fake_sounddevice import FakeSounddevice


@pytest.mark.parametrize(
    ("name", "index"),
    [(None, 2), (1, 1), ("1", 1), ("USB Microphone", 1), ("usb", 1), ("built", 2)],
)
def test_a_device_is_chosen_by_number_or_by_name(
    sounddevice: FakeSounddevice, name: str | int | None, index: int
) -> None:
    assert choose_device(name, "input").index == index


@pytest.mark.parametrize(
    ("name", "kind", "error", "message"),
    [
        ("0", "input", MicrophoneError, "no input device.*1 USB Microphone; 2 Built-in Audio"),
        ("tape", "input", MicrophoneError, "no input device.*1 USB Microphone; 2 Built-in Audio"),
        ("i", "input", MicrophoneError, "fits several.*1 USB Microphone; 2 Built-in Audio"),
        ("1", "output", SpeakerError, "no output device.*0 Headphones; 2 Built-in Audio"),
        ("USB Microphone", "output", SpeakerError, "no output device.*0 Headphones; 2 Built-in"),
    ],
)
def test_a_name_that_fits_no_device_or_several_is_refused(
    sounddevice: FakeSounddevice, name: str, kind: Kind, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        choose_device(name, kind)


def test_a_machine_without_a_device_is_an_error(
    sounddevice: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounddevice, "query_devices", list[dict[str, Any]])
    with pytest.raises(MicrophoneError, match="no input device"):
        choose_device(None, "input")


@pytest.mark.parametrize("opens", [Microphone, Speaker])
def test_a_missing_package_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, opens: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kfusion\[client\]'"):
        opens()


def test_a_missing_portaudio_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["mic", "--list"]) == 2
    assert "libportaudio2" in capsys.readouterr().err
