"""The scores of one trained network in a file: of each clip, and what they were made of.

Tables and comparisons are made from such files, without the network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from kfusion.errors import DataError
from kfusion.system import write_whole
from training.scores.scoring import Result

FORMAT: Final = "kfusion-scores-1"


@dataclass(frozen=True)
class KeptScores:
    """``training``: the options of the run and its data; ``scored``: the clips, and the phones;
    ``checkpoint``: its sha256; ``parameters``: counts by kind; ``results`` by mode; ``branches``:
    what each branch of a KFusion adds, as :attr:`~training.scores.branches.BranchShare.json`.
    """

    training: Mapping[str, Any]
    scored: Mapping[str, Any]
    checkpoint: str
    parameters: Mapping[str, int]
    results: Mapping[str, Result]
    branches: Sequence[Mapping[str, Any]] = ()

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises :class:`~kfusion.errors.DataError`."""
        results = {mode: result.json for mode, result in self.results.items()}
        whole = {"format": FORMAT, **vars(self), "results": results}
        text = json.dumps(whole, allow_nan=False, separators=(",", ":"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, f"{text}\n".encode())
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error})") from None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What was kept; None without a file, or for one of another version.

        Raises :class:`~kfusion.errors.DataError` for a file that is not JSON.
        """
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
            if kept.pop("format", "") != FORMAT:
                return None
            kept["results"] = {mode: Result.from_json(x) for mode, x in kept["results"].items()}
            return cls(**kept)
        except FileNotFoundError:
            return None
        except TypeError:  # other metrics than today's
            return None
        except (OSError, ValueError, AttributeError, KeyError) as error:
            raise DataError(f"{path}: no scores ({error!r}); remove it to make them anew") from None

    def check_training(
        self, path: Path, wanted: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> None:
        """Raises DataError where the network was trained otherwise than ``wanted``.

        ``defaults`` stand for options that there were none of at the time.
        """
        known = {**defaults, **self.training}
        other = [name for name, value in wanted.items() if known.get(name) != value]
        if other:
            was = ", ".join(f"{name} {known.get(name)!r}" for name in other)
            now = ", ".join(f"{name} {wanted[name]!r}" for name in other)
            raise DataError(
                f"{path}: is of a network trained with {was}; wanted {now}, or another folder"
            )
