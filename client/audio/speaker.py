"""An output device, through PortAudio (sounddevice), and the times at which sound is heard."""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from client.audio.devices import choose_device, sounddevice
from kfusion.errors import SpeakerError
from kfusion.wire import AudioFormat

BLOCK_MS: Final = 20
LATENCY_S: Final = 0.1  # of the device: a machine that stalls for less is not heard
MAX_DELAY_S: Final = 5.0  # a device that reports more does not know its times

Fill = Callable[[int, float], bytes]
"""(samples, when the first of them is heard) -> their PCM; in the device's thread."""


class Output(Protocol):
    """Plays audio: it calls ``fill`` for every block, and ``gone`` if it stops by itself."""

    @property
    def name(self) -> str: ...

    @property
    def underruns(self) -> int:
        """How often it played silence because audio came too late."""
        ...

    def start(self, audio: AudioFormat, fill: Fill, gone: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class Speaker:
    """An output device by its number or name; None: the system's default.

    Times are those of ``time.monotonic``, which is asyncio's. Raises
    :class:`~kfusion.errors.SpeakerError` where there is no such device.
    """

    def __init__(self, device: str | int | None = None) -> None:
        self._sd = sounddevice()
        self.device = choose_device(device, "output")
        self.underruns = 0
        self._stream: Any = None
        self._stopping = False

    @property
    def name(self) -> str:
        return self.device.name

    def takes(self, audio: AudioFormat) -> bool:
        """Whether the device plays sound of this rate, format and channels."""
        try:
            self._sd.check_output_settings(samplerate=audio.rate, **self._options(audio))
        except self._sd.PortAudioError:
            return False
        return True

    def _options(self, audio: AudioFormat) -> dict[str, Any]:
        return {
            "device": self.device.index,
            "channels": audio.channels,
            "dtype": "int16" if audio.format == "s16le" else "float32",
        }

    def start(self, audio: AudioFormat, fill: Fill, gone: Callable[[], None]) -> None:
        """Raises :class:`~kfusion.errors.SpeakerError` where the device cannot be opened."""

        def play(out: Any, samples: int, times: Any, status: Any) -> None:  # PortAudio's thread
            self.underruns += bool(status.output_underflow)
            now = time.monotonic()
            delay_s = times.outputBufferDacTime - self._stream.time
            if times.outputBufferDacTime <= 0 or abs(delay_s) > MAX_DELAY_S:
                delay_s = self._stream.latency
            out[:] = fill(samples, now + delay_s)

        def finished() -> None:
            if not self._stopping:
                gone()

        try:
            self._stream = self._sd.RawOutputStream(
                samplerate=audio.rate,
                blocksize=audio.rate * BLOCK_MS // 1000,
                latency=LATENCY_S,
                callback=play,
                finished_callback=finished,
                **self._options(audio),
            )
            self._stream.start()
        except self._sd.PortAudioError as error:
            raise SpeakerError(
                f"{self.name}: cannot be opened for {audio.rate} Hz, {audio.format}, "
                f"{audio.channels} channel(s) ({error}); its own rate is {self.device.rate} Hz"
            ) from None

    def stop(self) -> None:
        """Silence, at once."""
        self._stopping = True
        if self._stream is not None:
            self._stream.abort()
            self._stream.close()
