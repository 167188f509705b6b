"""torchaudio's Python parts (functional, transforms), also where its extension cannot load.

Beside a CPU build of torch, ``import torchaudio`` raises OSError, in transformers too. Nothing here
needs the extension, so a stand-in takes its place. The running server never imports torchaudio.
"""

import importlib
import logging
import sys
import types
from typing import Any

log = logging.getLogger(__name__)


def torchaudio() -> Any:
    """The package, whole or without its extension. Raises ImportError where it is missing."""
    try:
        return importlib.import_module("torchaudio")
    except OSError as error:
        log.info("torchaudio's extension cannot load (%s); going on with its Python parts", error)
    for name in [m for m in sys.modules if m == "torchaudio" or m.startswith("torchaudio.")]:
        del sys.modules[name]
    stand_in: Any = types.ModuleType("torchaudio._extension")
    stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stand_in.fail_if_no_align = _needs_extension
    sys.modules["torchaudio._extension"] = stand_in
    return importlib.import_module("torchaudio")


def _needs_extension(function: Any) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{function.__name__} needs torchaudio's extension, which cannot load")

    return fail
