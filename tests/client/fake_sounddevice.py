"""The sounddevice package without PortAudio: a test makes the calls of its thread."""

from types import ModuleType, SimpleNamespace
from typing import Any


class PortAudioError(Exception):
    pass


class FakeStream:
    """A raw stream of one direction. ``options`` are those that it was opened with."""

    latency = 0.07
    time = 500.0

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.running = False
        self.samples = 0

    def start(self) -> None:
        self.running = True

    def abort(self) -> None:
        self.running = False
        self.options["finished_callback"]()

    def close(self) -> None:
        if self.running:
            self.abort()

    def record(self, pcm: bytes, *, overflow: bool = False) -> None:
        """Gives the callback of an input stream a block that was captured."""
        samples = len(pcm) // 2
        captured_at = 5.0 + self.samples / self.options["samplerate"]
        self.samples += samples
        times = SimpleNamespace(inputBufferAdcTime=captured_at)
        status = SimpleNamespace(input_overflow=overflow)
        self.options["callback"](pcm, samples, times, status)

    def play(self, heard_at: float, *, underflow: bool = False) -> bytes:
        """Takes a block from the callback of an output stream."""
        out = bytearray(2 * self.options["blocksize"])
        times = SimpleNamespace(outputBufferDacTime=heard_at)
        status = SimpleNamespace(output_underflow=underflow)
        self.options["callback"](memoryview(out), self.options["blocksize"], times, status)
        return bytes(out)


class FakeSounddevice(ModuleType):
    """Three devices that take the given ``rates``; ``streams`` are those that were opened."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.rates = {44_100, 48_000}
        self.streams: list[FakeStream] = []
        self.default = SimpleNamespace(device=(2, 2))

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "max_input_channels": inputs, "max_output_channels": outputs,
             "default_samplerate": float(rate)}
            for name, inputs, outputs, rate in (
                ("Headphones", 0, 2, 44_100),
                ("USB Microphone", 1, 0, 44_100),
                ("Built-in Audio", 2, 2, 48_000),
            )
        ]  # fmt: skip

    def check_output_settings(self, **options: Any) -> None:
        if options["samplerate"] not in self.rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def RawInputStream(self, **options: Any) -> FakeStream:  # noqa: N802 - sounddevice's name
        self.check_output_settings(**options)
        self.streams.append(FakeStream(options))
        return self.streams[-1]

    RawOutputStream = RawInputStream
