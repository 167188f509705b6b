"""Engines that run a network, behind one interface, and the offline call.

    import kfusion
    frames = kfusion.load().animate("speech.wav", emotion={"happy": 0.7})   # (T, 68, 2)

An engine takes a batch of windows and says how the faces move: rows never meet.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion import emotion as emotions
from kfusion.audio import Samples, read_audio
from kfusion.config import FRAMES, MAX_RATE, MIN_RATE, WINDOW, ModelConfig
from kfusion.emotion_timeline import Score
from kfusion.errors import BadAudio, CheckpointError, MissingExtra
from kfusion.landmarks import NEUTRAL_IDENTITY, NEUTRAL_INTER_OCULAR, Identity
from kfusion.layers import mel
from kfusion.stream import Stitcher, Window, windows_of

WEIGHTS: Final = Path(__file__).parent / "weights" / "compact.safetensors"
EXPORTED: Final = WEIGHTS.with_suffix(".onnx")
EngineName = Literal["auto", "onnx", "torch", "synthetic"]
ENGINES: Final[tuple[EngineName, ...]] = ("auto", "onnx", "torch", "synthetic")


class Engine(Protocol):
    """``name`` and ``sha256`` say which model runs; ``lanes`` how many threads may call ``step`` at
    once, and gain by it.
    """

    name: str
    sha256: str
    lanes: int

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Windows -> displacements.

        ``audio`` (B, 16000) at 16 kHz; ``identity`` (B, 68, 2) canonical; ``emotion`` (B, 8)
        -> (B, 30, 68, 2) in canonical pixels.
        """
        ...


class TorchEngine:
    """A checkpoint in PyTorch: float32 on the CPU; on CUDA compiled, in bfloat16 unless told not.

    On CUDA batches are filled up to the next of a few sizes, so that each is compiled once.
    """

    BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

    def __init__(
        self,
        checkpoint: Path = WEIGHTS,
        device: str = "cpu",
        threads: int = 0,
        *,
        bfloat16: bool | None = None,
        compiled: bool | None = None,
    ) -> None:
        try:
            import torch
        except ImportError:
            raise MissingExtra(
                "PyTorch is not installed; pip install 'kfusion[torch]' (the bundled model runs "
                "on ONNX Runtime without it)"
            ) from None
        from kfusion.checkpoint import load_model

        self._torch = torch
        if threads:
            torch.set_num_threads(threads)
        self.model, self.provenance = load_model(checkpoint)
        self.device = torch.device(device)
        try:
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise CheckpointError(f"device {device!r} cannot be used: {error}") from None
        on_cuda = self.device.type == "cuda"
        self.bfloat16 = on_cuda if bfloat16 is None else bfloat16
        self.bucketed = on_cuda if compiled is None else compiled
        self._run: Any = self.model.displacement
        if self.bucketed:
            self._run = torch.compile(self._run, dynamic=False)
        self.name = f"{self.model.config.preset}-torch"
        self.lanes = 1  # torch's own threads, or the GPU, work within a step
        self.sha256 = file_sha256(checkpoint)

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        torch = self._torch
        count = len(audio)
        size = count
        if self.bucketed:
            size = next((b for b in self.BUCKETS if b >= count), count)
        rows: list[Any] = []
        for part in (audio, identity, emotion):
            filled = np.zeros((size, *part.shape[1:]), np.float32)
            filled[:count] = part
            rows.append(torch.from_numpy(filled))
        if self.device.type == "cuda":
            rows = [part.pin_memory().to(self.device, non_blocking=True) for part in rows]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16),
        ):
            out = self._run(*rows)[:count]
        return out.float().cpu().numpy()


class OnnxEngine:
    """A checkpoint exported by ``python -m training.export``, in ONNX Runtime on the CPU.

    The .onnx lies beside the .safetensors that it was made from and carries its sha256; a pair
    that does not match is refused. NumPy takes the power spectra, the graph does the rest.

    A step runs on the thread that calls it: two at once get nearly twice as much done on two
    cores as one that is split over them, and one alone takes no longer (training/RESULTS.md).
    ``threads`` is how many may be at it; 0 is one for each core, up to 16.
    """

    def __init__(self, exported: Path = EXPORTED, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra(
                "ONNX Runtime is not installed; pip install 'kfusion[server]'"
            ) from None
        if not exported.is_file():
            raise CheckpointError(
                f"{exported}: no such file; wanted what python -m training.export writes"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(exported), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no public base
            raise CheckpointError(f"{exported}: not a readable ONNX model ({error})") from None
        metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        try:
            self.sha256 = metadata["kfusion_sha256"]
            config = msgspec.json.decode(metadata["kfusion_config"], type=dict[str, Any])
            self.config = ModelConfig.from_dict(config)
        except (KeyError, msgspec.DecodeError) as error:
            raise CheckpointError(f"{exported}: broken metadata ({error!r})") from None
        source = exported.with_suffix(".safetensors")
        if source.is_file() and file_sha256(source) != self.sha256:
            raise CheckpointError(
                f"{exported}: was exported from other weights than {source.name}; "
                "run python -m training.export again"
            )
        self.name = f"{self.config.preset}-onnx"
        self.lanes = threads or min(16, cores())

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        (said,) = self.session.run(
            ["displacement"],
            {
                "power": mel.power_spectrum(audio),
                "identity": identity.astype(np.float32),
                "emotion": emotion.astype(np.float32),
            },
        )
        return np.asarray(said, np.float32)


def cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SyntheticEngine:
    """A plausible mouth from loudness, with NumPy alone: for clients' tests and for load."""

    name = "synthetic"
    sha256 = ""
    lanes = 1

    _STARTS: Final = np.arange(FRAMES) * WINDOW // FRAMES

    def __init__(self) -> None:
        jaw = {57: 1.0, 56: 0.95, 58: 0.95, 55: 0.6, 59: 0.6, 65: 0.9, 66: 1.0, 67: 0.9, 8: 0.9,
               7: 0.85, 9: 0.85, 6: 0.6, 10: 0.6, 5: 0.3, 11: 0.3}  # fmt: skip
        lift = {61: -0.12, 62: -0.15, 63: -0.12, 50: -0.08, 51: -0.1, 52: -0.08}
        self._open = np.zeros((68, 2), np.float32)
        for i, y in {**jaw, **lift}.items():
            self._open[i, 1] = y * 0.11 * NEUTRAL_INTER_OCULAR
        table = emotions.DISPLACEMENT * NEUTRAL_INTER_OCULAR
        self._emotions = table.astype(np.float32)

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        power = np.add.reduceat(np.square(audio, dtype=np.float32), self._STARTS, axis=1)
        loudness = np.sqrt(power * np.float32(FRAMES / WINDOW))
        opening = np.clip((loudness - 0.004) / 0.12, 0, 1)
        padded = np.pad(opening, ((0, 0), (1, 1)), mode="edge")
        opening = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        moved = opening[:, :, None, None] * self._open
        # A plain sum, row by row: a matrix product may round differently with the batch's size.
        felt = (emotion.astype(np.float32)[:, :, None, None] * self._emotions).sum(axis=1)
        return moved + felt[:, None]


def make_engine(
    name: EngineName = "auto",
    checkpoint: Path | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Engine:
    """``auto`` is torch on CUDA where there is one, else ONNX Runtime on the CPU for a checkpoint
    that has its .onnx beside it, else torch on the CPU.

    Raises :class:`~kfusion.errors.MissingExtra` without the engine's package and
    :class:`~kfusion.errors.CheckpointError` for a file that is not a usable model.
    """
    if name == "synthetic":
        return SyntheticEngine()
    checkpoint = checkpoint or WEIGHTS
    exported = checkpoint.with_suffix(".onnx")
    if name == "onnx":
        return OnnxEngine(exported, threads)
    on_cuda = device.startswith("cuda") or (device == "auto" and _cuda())
    if name == "auto" and not on_cuda and exported.is_file():
        try:
            return OnnxEngine(exported, threads)
        except MissingExtra:
            pass  # torch may be there
    if device == "auto":
        device = "cuda" if on_cuda else "cpu"
    return TorchEngine(checkpoint, device, threads)


def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


class Animator:
    """An engine with the offline call around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def animate(
        self,
        audio: str | Path | ArrayLike,
        rate: int | None = None,
        *,
        emotion: Mapping[str, float] | Score | None = None,
        identity: ArrayLike | None = None,
        hop: int = 3,
        lookahead: int = 3,
        batch: int = 16,
    ) -> NDArray[np.float32]:
        """The frames of a whole recording: (T, 68, 2), T = ceil(30 x samples / rate).

        ``audio`` is a file, or samples (N,) in -1..1 with their ``rate`` (8000-96000).
        ``identity`` (68, 2) is a face at rest in any coordinates, which the answer is in; without
        one it is in pixels of the canonical 256 x 256 crop. ``emotion`` is {name: weight}, or a
        :class:`~kfusion.score.Score` of emotions over time. The same as a stream of the same
        samples at this hop and look-ahead (frames).

        Raises :class:`~kfusion.errors.AudioFileError`, ``BadAudio``, ``BadEmotion`` or
        ``BadIdentity``.
        """
        samples, rate = _samples(audio, rate)
        face = NEUTRAL_IDENTITY if identity is None else Identity.from_points(identity)
        track = (
            emotion.track()
            if isinstance(emotion, Score)
            else emotions.EmotionTrack(emotions.vector(emotion or {}))
        )
        stitcher = Stitcher(hop, lookahead)
        frames = [np.zeros((0, 68, 2), np.float32)]
        batches = _batched(windows_of(samples, rate, hop, lookahead), batch)
        for windows, said in self._run(batches, face.canonical, track):
            frames += [face.place(stitcher.push(w, s)) for w, s in zip(windows, said, strict=True)]
        return np.concatenate(frames)

    def _run(
        self, batches: Iterator[list[Window]], face: NDArray[Any], track: emotions.EmotionTrack
    ) -> Iterator[tuple[list[Window], NDArray[np.float32]]]:
        """Each batch and what the engine says of it, in order, on all of its lanes."""

        def step(windows: list[Window]) -> NDArray[np.float32]:
            rows = len(windows)
            return self.engine.step(
                np.stack([w.audio for w in windows]),
                np.repeat(face[None], rows, axis=0),
                np.stack([track.at(w.last - 1) for w in windows]),
            )

        if self.engine.lanes == 1:
            yield from ((windows, step(windows)) for windows in batches)
            return
        running: deque[tuple[list[Window], Future[NDArray[np.float32]]]] = deque()
        with ThreadPoolExecutor(self.engine.lanes) as lanes:
            for windows in batches:
                running.append((windows, lanes.submit(step, windows)))
                if len(running) > self.engine.lanes:
                    first, said = running.popleft()
                    yield first, said.result()
            for first, said in running:
                yield first, said.result()


def _samples(audio: str | Path | ArrayLike, rate: int | None) -> tuple[Samples, int]:
    if isinstance(audio, (str, Path)):
        return read_audio(audio)
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise BadAudio(f"samples have shape {samples.shape}; wanted (N,), one channel")
    if rate is None or not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio(f"rate is {rate}; wanted {MIN_RATE} to {MAX_RATE} Hz with the samples")
    if not np.isfinite(samples).all():
        raise BadAudio("samples are not finite; wanted -1..1")
    return np.clip(samples, -1, 1), rate


def _batched(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    while some := list(islice(windows, size)):
        yield some


def load(
    checkpoint: str | Path | None = None, *, engine: EngineName = "auto", device: str = "auto"
) -> Animator:
    """The bundled model, or the one in ``checkpoint``, ready to animate."""
    return Animator(make_engine(engine, Path(checkpoint) if checkpoint else None, device))
