"""Rates and window sizes, and the configuration of a network: its sizes and switches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from kfusion.errors import CheckpointError

SAMPLE_RATE: Final = 16_000
"""Hz of the audio that the network takes."""
MIN_RATE: Final = 8_000
"""Lowest sample rate in Hz of a stream or of samples given to ``animate``."""
MAX_RATE: Final = 96_000
"""Highest sample rate in Hz, likewise."""
FPS: Final = 30
"""Video frames a second."""
WINDOW: Final = 16_000
"""Samples of 16 kHz audio in a window (1 s)."""
FRAMES: Final = 30
"""C of the paper: video frames in a window."""
CROP_CENTRE: Final = 128.0
CROP_SCALE: Final = 64.0
"""The network sees a landmark as (canonical pixels - CROP_CENTRE) / CROP_SCALE."""

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "preset": ("compact", "paper", "paper-direct"),
    "sound": ("mel", "raw"),
    "content": ("mel", "wav2vec2"),
    "head": ("kan", "mlp", "none"),
    "cell": ("lstm", "gru"),
    "concatenate": ("features", "time"),
}


@dataclass(frozen=True)
class ModelConfig:
    """One network. The defaults are those of the first files of the ``compact`` preset, so that
    they load; :data:`PRESETS` has the current ones.

    ``fusion``, ``lstm``, ``global_domain`` and ``head`` are the ablations of the paper's Table 2.
    """

    preset: Literal["compact", "paper", "paper-direct"] = "compact"  # name in an engine's name
    sound: Literal["mel", "raw"] = "mel"  # input of the Global Domain
    loudness: bool = False  # the Global Domain gets the energy of each step of the raw signal
    content: Literal["mel", "wav2vec2"] = "mel"  # input of the Content Domain
    wav2vec2: str = ""  # its architecture: a transformers configuration as JSON
    freeze_wav2vec2: bool = True  # wav2vec2's weights are not trained
    width: int = 128  # d: channels of every Transformer layer
    heads: int = 4  # attention heads of every Transformer layer
    context_heads: int = 0  # of the ct branch; 0: as many as heads
    feedforward: int = 384  # inner channels of a Transformer layer's feed-forward block
    global_layers: int = 2  # Transformer encoder E of the Global Domain
    content_layers: int = 3  # Transformer encoder instead of wav2vec2 (content "mel")
    context_layers: int = 1  # Transformer encoder of the ct branch
    decoder_layers: int = 1  # each of the three decoders
    cell: Literal["lstm", "gru"] = "lstm"  # of the recurrent branches that the paper calls LSTM
    lstm_width: int = 128  # channels of each recurrent branch (concatenate "features")
    mels: int = 80  # mel bands
    concatenate: Literal["features", "time"] = "features"
    """Axis of the concatenation in eq. 8 and 9. With "time" the branches keep the encoder's steps,
    the LSTMs read both ways, the fusion's convolutions have time as their channels, and the KAN is
    [68, H, 68] for x and y alike; with "features" it is [F, H, F]."""
    bottleneck: int = 64  # inner channels of the 1-3-1 block B
    kan_hidden: int = 64  # H of the KAN and of the MLP
    kan_grid: int = 8  # intervals of the spline grid
    kan_range: float = 3.0  # the grid spans -range..range before it is fitted to data
    dropout: float = 0.1  # in every Transformer layer
    unit_px: float = 4.0  # canonical pixels that one unit of the network's output stands for
    fusion: bool = True  # KFusion (section 3.4); off: one linear layer
    lstm: bool = True  # the recurrent branches of the Content Domain
    global_domain: bool = True  # the Global Domain (section 3.2)
    head: Literal["kan", "mlp", "none"] = "kan"  # the last layers
    direct: bool = False  # direct paths from identity and fusion to the output

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Missing fields take their defaults, as in older files.

        Raises :class:`CheckpointError` naming fields that are unknown or of another type."""
        types = {f.name: type(f.default) for f in fields(cls)}
        unknown = sorted(set(values) - set(types))
        if unknown:
            raise CheckpointError(f"model config: unknown fields {', '.join(unknown)}")
        for name, value in values.items():
            expected = types[name]
            if type(value) is not expected and not (expected is float and type(value) is int):
                raise CheckpointError(
                    f"model config: {name} is {value!r}; wanted {expected.__name__}"
                )
            if name in _CHOICES and value not in _CHOICES[name]:
                raise CheckpointError(
                    f"model config: {name} is {value!r}; wanted {' or '.join(_CHOICES[name])}"
                )
            if expected in (int, float) and not 0 <= value <= 1_000_000:
                raise CheckpointError(f"model config: {name} is {value!r}; wanted 0 to 1e6")
        if values.get("preset") == "paper" and values.get("concatenate") != "time":
            values = {**values, "preset": "paper-direct"}  # what files before 0.3 call "paper"
        return cls(**values)


PRESETS: Final[dict[str, ModelConfig]] = {
    "compact": ModelConfig(direct=True, cell="gru", lstm_width=192, global_layers=1),
    "paper": ModelConfig(
        preset="paper",
        sound="raw",
        loudness=True,
        content="wav2vec2",
        concatenate="time",
        width=768,
        heads=2,
        context_heads=1,
        feedforward=2048,
        global_layers=1,
        bottleneck=256,
        kan_hidden=512,
        kan_grid=5,
        kan_range=1.0,
        dropout=0.2,
    ),
    "paper-direct": ModelConfig(
        preset="paper-direct",
        direct=True,
        sound="raw",
        content="wav2vec2",
        width=256,
        heads=4,
        feedforward=1024,
        lstm_width=256,
        bottleneck=128,
        kan_hidden=136,
    ),
}
"""``paper`` is the network of the paper; the others are its structure with direct paths."""
