"""Engine that runs an exported checkpoint in ONNX Runtime on the CPU, without torch."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfusion.config import ModelConfig
from kfusion.engines.base import EXPORTED
from kfusion.errors import CheckpointError, MissingExtra
from kfusion.layers import mel
from kfusion.system import available_cores, file_sha256


class OnnxEngine:
    """A file of ``python -m training.export``, beside the .safetensors whose sha256 it contains.

    A step runs on the calling thread only: concurrent steps on separate cores have more
    throughput than one step split over them (training/RESULTS.md). ``threads``: lanes; 0 is one
    for each core, up to 16.
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
        self.lanes = threads or min(16, available_cores())

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        (output,) = self.session.run(
            ["displacement"],
            {
                "power": mel.power_spectrum(audio),
                "identity": identity.astype(np.float32),
                "emotion": emotion.astype(np.float32),
            },
        )
        return np.asarray(output, np.float32)
