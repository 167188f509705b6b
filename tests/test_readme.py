"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.conftest import RunningServer, voice

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), names)
    return names


def block_with(text: str) -> str:
    (found,) = (b for b in BLOCKS if text in b)
    return found


def test_the_offline_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "speech.wav", voice(1.0), 16_000)
    monkeypatch.chdir(tmp_path)
    assert run(block_with("animate"))["frames"].shape == (30, 68, 2)


@pytest.mark.asyncio
async def test_the_live_client(
    synthetic_server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    block = block_with("connect(").replace("ws://127.0.0.1:8765", synthetic_server.url)
    await run(block)["main"](voice(1.0))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 30 and printed[-1].endswith("(68, 2)")


def test_the_model_is_read_loaded_and_called() -> None:
    names = run(block_with("load_model"))
    assert tuple(names["landmarks"].shape) == (1, 30, 68, 2)
    face = np.asarray(names["identity"])
    corners = names["landmarks"][0, -1, [48, 54], 1].numpy() - face[0, [48, 54], 1]
    assert (corners < 0).all()  # happy
    assert "CC BY 4.0" in names["provenance"]["licence"]


def test_the_readme_names_two_commands_and_stays_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) < 200
    assert text.index("make run") < text.index("make test") < 900
