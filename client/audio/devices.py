"""The sound devices of this machine, through PortAudio (sounddevice)."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from kfusion.errors import KFusionError, MicrophoneError, MissingExtra, SpeakerError

Kind = Literal["input", "output"]

_ERRORS: Final[dict[Kind, type[KFusionError]]] = {
    "input": MicrophoneError,
    "output": SpeakerError,
}
_REQUIRED: Final[dict[Kind, str]] = {
    "input": "wanted a microphone that is plugged in",
    "output": "wanted a loudspeaker or headphones that are plugged in",
}


@dataclass(frozen=True)
class Device:
    """A device as PortAudio lists it; ``channels`` of the direction that was listed."""

    index: int
    name: str
    channels: int
    rate: int
    default: bool


def sounddevice() -> Any:
    """The package sounddevice. Raises :class:`~kfusion.errors.MissingExtra` where it is missing."""
    try:
        import sounddevice as package
    except ImportError:
        raise MissingExtra(
            "the sounddevice package is not installed; pip install 'kfusion[client]'"
        ) from None
    except OSError:
        raise MissingExtra(
            "the PortAudio library is not installed; on Debian or Ubuntu: apt install libportaudio2"
        ) from None
    return package


def list_devices(kind: Kind) -> list[Device]:
    """Every input or output device. Raises :class:`~kfusion.errors.MissingExtra`."""
    sd = sounddevice()
    default = sd.default.device[kind == "output"]
    channels = f"max_{kind}_channels"
    return [
        Device(index, d["name"], d[channels], round(d["default_samplerate"]), index == default)
        for index, d in enumerate(sd.query_devices())
        if d[channels] > 0
    ]


def choose_device(name: str | int | None, kind: Kind) -> Device:
    """The device of an index, a name, or a part of a name in any case; None: the default.

    Raises :class:`~kfusion.errors.MicrophoneError` or :class:`~kfusion.errors.SpeakerError` where
    no device fits, or several do.
    """
    error = _ERRORS[kind]
    found = list_devices(kind)
    if not found:
        raise error(f"no {kind} device; {_REQUIRED[kind]}")
    names = "; ".join(f"{d.index} {d.name}" for d in found)
    if name is None:
        return next((d for d in found if d.default), found[0])
    text = str(name)
    if text.isdecimal():
        fits = [d for d in found if d.index == int(text)]
    else:
        fits = [d for d in found if d.name == text]
        fits = fits or [d for d in found if text.casefold() in d.name.casefold()]
    if len(fits) != 1:
        problem = f"is no {kind} device" if not fits else f"fits several {kind} devices"
        raise error(f"{text!r} {problem}; wanted one of: {names}")
    return fits[0]
