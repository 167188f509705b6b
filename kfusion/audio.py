"""Sound in: PCM bytes and files -> mono float32, and the band-limited step to 16 kHz.

The resampler is a short polyphase FIR because soxr 1.1 delays by 20 ms (LQ) to 41 ms (HQ).
"""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kfusion.config import MAX_RATE, MIN_RATE, SAMPLE_RATE
from kfusion.errors import AudioFileError, BadAudio, MissingExtra

Samples = NDArray[np.float32]
Format = Literal["s16le", "f32le"]

_BYTES: Final[dict[str, int]] = {"s16le": 2, "f32le": 4}


def frame_bytes(audio_format: Format, channels: int) -> int:
    """Bytes of one sample frame: one sample of every channel."""
    return _BYTES[audio_format] * channels


def check_whole(data: bytes, audio_format: Format, channels: int) -> None:
    """Raises :class:`~kfusion.errors.BadAudio` when the bytes are not whole sample frames."""
    frame = frame_bytes(audio_format, channels)
    if len(data) % frame:
        raise BadAudio(
            f"{len(data)} bytes are not whole sample frames; wanted a multiple of {frame} "
            f"({audio_format}, {channels} channel{'s' if channels > 1 else ''})"
        )


def decode_pcm(data: bytes, audio_format: Format, channels: int) -> Samples:
    """Interleaved PCM -> mono (n,) in -1..1, channels averaged, clipped at full scale.

    Raises :class:`~kfusion.errors.BadAudio` when the bytes are not whole sample frames or a
    float is not finite.
    """
    check_whole(data, audio_format, channels)
    if audio_format == "s16le":
        samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    else:
        samples = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(samples).all():
            at = int(np.flatnonzero(~np.isfinite(samples))[0])
            raise BadAudio(f"float sample {at} of the message is not finite; wanted -1..1")
        samples = np.clip(samples, -1, 1)
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples


@dataclass(frozen=True)
class _Kernel:
    """Kaiser-windowed sinc: ``table[phase]`` weighs the 2 x ``half`` samples around a point."""

    half: int
    table: NDArray[np.float32]  # (phases + 1, 2 * half)


_TABLE_PHASES: Final = 1024
_REJECTION_DB: Final = 60.0


@lru_cache(maxsize=16)
def _kernel(rate: int) -> _Kernel:
    """Low-pass for ``rate`` -> 16 kHz by Kaiser's formulas (Oppenheim & Schafer, 7.5).

    60 dB from the lower Nyquist rate on; the transition is a tenth of that frequency.
    """
    stop = min(rate, SAMPLE_RATE) / 2
    transition = 0.1 * stop
    taps = (_REJECTION_DB - 7.95) / (14.36 * transition / rate)
    half = ceil(taps / 2)
    beta = 0.1102 * (_REJECTION_DB - 8.7)
    cutoff = 2 * (stop - transition / 2) / rate  # in half cycles a sample
    phases = SAMPLE_RATE // gcd(rate, SAMPLE_RATE)
    phases = min(phases, _TABLE_PHASES)
    offset = np.arange(-half + 1, half + 1) - np.arange(phases + 1)[:, None] / phases
    window = np.i0(beta * np.sqrt(np.clip(1 - (offset / half) ** 2, 0, None))) / np.i0(beta)
    table = np.sinc(cutoff * offset) * window
    table /= table.sum(axis=1, keepdims=True)
    return _Kernel(half, table.astype(np.float32))


def resampling_delay(rate: int) -> int:
    """D of the protocol: samples of ``rate`` that must follow a point before it is known."""
    return 0 if rate == SAMPLE_RATE else _kernel(rate).half + 1


class SampleQueue:
    """Received samples by absolute position; silence is a length, other positions read as zeros.

    Small chunks share blocks, so that single samples cost no more memory than large chunks.
    """

    BLOCK: Final = 4096

    def __init__(self) -> None:
        self.received = 0
        self.chunks: deque[tuple[int, Samples]] = deque()  # first sample, block

    def append(self, samples: Samples) -> None:
        count, first = len(samples), self.received
        if count >= self.BLOCK:
            self.chunks.append((first, samples))
        elif count:
            start, block = self.chunks[-1] if self.chunks else (first, samples[:0])
            if first - start + count > len(block):
                start, block = first, np.zeros(self.BLOCK, np.float32)
                self.chunks.append((start, block))
            block[first - start : first - start + count] = samples
        self.received += count

    def append_silence(self, count: int) -> None:
        self.received += count

    def silence(self) -> None:
        """Turns all that was received into silence."""
        self.chunks.clear()

    def discard(self, before: int) -> None:
        """Lets go of chunks that end at or before a position; they read as zeros then."""
        while self.chunks and self.chunks[0][0] + len(self.chunks[0][1]) <= before:
            self.chunks.popleft()

    def read(self, start: int, stop: int) -> Samples:
        out = np.zeros(max(0, stop - start), np.float32)
        for first, chunk in self.chunks:
            if first >= stop:
                break
            low, high = max(start, first), min(stop, first + len(chunk))
            if low < high:
                out[low - start : high - start] += chunk[low - first : high - first]
        return out


def resample(queue: SampleQueue, rate: int, start: int, stop: int) -> Samples:
    """16 kHz samples ``start`` .. ``stop`` of ``queue`` at ``rate``; sample j lies at j / 16000 s.

    Each depends on the input around it alone, so that any division into calls gives the same bits.
    """
    if stop <= start:
        return np.zeros(0, np.float32)
    if rate == SAMPLE_RATE:
        return queue.read(start, stop)
    kernel = _kernel(rate)
    position = np.arange(start, stop, dtype=np.int64) * rate
    base, rest = np.divmod(position, SAMPLE_RATE)
    first = int(base[0]) - kernel.half + 1
    source = queue.read(first, int(base[-1]) + kernel.half + 1)
    if not source.any():
        return np.zeros(stop - start, np.float32)
    rows = np.lib.stride_tricks.sliding_window_view(source, 2 * kernel.half)[base - base[0]]
    phase = rest * (len(kernel.table) - 1) / SAMPLE_RATE
    low = phase.astype(np.int64)
    weights = kernel.table[low]
    share = (phase - low).astype(np.float32)[:, None]
    if share.any():
        weights = weights + (kernel.table[low + 1] - weights) * share
    return np.einsum("ij,ij->i", rows, weights)


def read_audio(path: str | Path) -> tuple[Samples, int]:
    """A sound file -> mono (n,) float32 in -1..1 and its rate.

    Reads what libsndfile reads (WAV, FLAC, Ogg, MP3 ...) and, with PyAV installed (the client
    extra), what FFmpeg reads. Rates outside 8-96 kHz are brought to 48 kHz, so that every file
    can be streamed as it is.

    Raises :class:`~kfusion.errors.AudioFileError` for what cannot be read or holds no sound.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioFileError(f"{path}: no such file")
    samples, rate = _read_sndfile(path) or _read_av(path)
    if not len(samples):
        raise AudioFileError(f"{path}: holds no sound")
    if not np.isfinite(samples).all():
        raise AudioFileError(f"{path}: holds samples that are not finite")
    samples = np.clip(samples, -1, 1)
    if not MIN_RATE <= rate <= MAX_RATE:
        import soxr  # only such files need it

        samples, rate = soxr.resample(samples, rate, 48_000).astype(np.float32), 48_000
    return samples, rate


def _read_sndfile(path: Path) -> tuple[Samples, int] | None:
    import soundfile  # clients that send no files need not load it

    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    return data.mean(axis=1, dtype=np.float32), int(rate)


def _read_av(path: Path) -> tuple[Samples, int]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise MissingExtra(
            f"{path}: not a format of libsndfile; pip install 'kfusion[client]' reads more"
        ) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioFileError(f"{path}: holds no sound")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            blocks: list[NDArray[Any]] = []
            for frame in container.decode(stream):
                blocks += [f.to_ndarray() for f in to_float.resample(frame)]
            blocks += [f.to_ndarray() for f in to_float.resample(None)]
    except FFmpegError as error:
        raise AudioFileError(f"{path}: cannot be read as sound ({error})") from None
    if not blocks:
        return np.zeros(0, np.float32), rate
    return np.concatenate(blocks, axis=1).mean(axis=0, dtype=np.float32), rate
