"""A state that is damaged, or of something else, is named, and changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kfusion.errors import DataError
from training.run import Run

SETTINGS = {"lr": 0.1}


def parts(seed: int, width: int = 50) -> dict[str, Any]:
    """Two networks and an optimizer, before their first step."""
    torch.manual_seed(seed)
    student, average = nn.Linear(width, width), nn.Linear(width, width)
    return {
        "student": student,
        "average": average,
        "optimizer": torch.optim.AdamW(student.parameters(), lr=0.1),
    }


def write_state(out: Path, without: str = "", width: int = 50, **settings: Any) -> Path:
    """state.pt after one step, as :meth:`training.run.Run.save` writes it."""
    made = parts(1, width)
    made["student"](torch.ones(width)).sum().backward()
    made["optimizer"].step()
    state = {name: part.state_dict() for name, part in made.items()}
    state |= {"step": 7, "settings": {**SETTINGS, **settings}}
    out.mkdir()
    torch.save({k: v for k, v in state.items() if k != without}, out / "state.pt")
    return out / "state.pt"


def flipped(data: bytes) -> bytes:
    """One bit of the first network's weights is another."""
    at = len(data) // 4
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def values(made: dict[str, Any]) -> list[Any]:
    weights = [p.clone() for name in ("student", "average") for p in made[name].parameters()]
    return [*weights, dict(made["optimizer"].state)]


def same(one: list[Any], other: list[Any]) -> bool:
    tensors = zip(one[:-1], other[:-1], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and one[-1] == other[-1]


def test_a_whole_state_is_restored(tmp_path: Path) -> None:
    write_state(tmp_path / "run")
    made = parts(2)
    before = values(made)
    assert Run(tmp_path / "run", SETTINGS, "cpu").restore(**made) == 7
    assert not same(values(made), before) and made["optimizer"].state


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda data: data[:500],
    "without its end": lambda data: data[:-100],
    "something else": lambda _: b"no state at all",
    "one bit": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_named_and_nothing_is_restored(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = write_state(tmp_path / "run")
    path.write_bytes(damage(path.read_bytes()))
    refused(tmp_path / "run")


@pytest.mark.parametrize("missing", ["student", "average", "optimizer", "step", "settings"])
def test_a_state_that_lacks_a_part_is_named(tmp_path: Path, missing: str) -> None:
    write_state(tmp_path / "run", without=missing)
    refused(tmp_path / "run")


def test_the_state_of_another_network_is_named(tmp_path: Path) -> None:
    write_state(tmp_path / "run", width=20)
    refused(tmp_path / "run")
    torch.save([1, 2], tmp_path / "run" / "state.pt")
    refused(tmp_path / "run")


def test_an_optimizer_that_does_not_fit_leaves_the_networks_as_they_were(tmp_path: Path) -> None:
    path = write_state(tmp_path / "run")
    state = torch.load(path, weights_only=True)
    state["optimizer"]["param_groups"] = []
    torch.save(state, path)
    refused(tmp_path / "run")


def refused(out: Path) -> None:
    made = parts(2)
    before = values(made)
    wanted = rf"{out}/state\.pt: is damaged, or is not .*; wanted the file whole; without it, or in"
    with pytest.raises(DataError, match=wanted):
        Run(out, SETTINGS, "cpu").restore(**made)
    assert same(values(made), before)


def test_other_settings_are_named_before_anything_is_restored(tmp_path: Path) -> None:
    write_state(tmp_path / "run", lr=0.2)
    made = parts(2)
    before = values(made)
    with pytest.raises(DataError, match=r"was begun with lr 0\.2, not 0\.1"):
        Run(tmp_path / "run", SETTINGS, "cpu").restore(**made)
    assert same(values(made), before)
