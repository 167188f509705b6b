"""The examples: that in Python and that for three.js run, the others are read by parsers."""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile

from kfusion.coefficients import ARKIT52
from tests.conftest import RunningServer, voice
from tests.page.browser import chromium, files_served, npm_install

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
CODE: Final = (".py", ".js", ".html", ".gd", ".cs")
RATE: Final = 16_000

# The morph targets of the head, at each frame of the screen for some seconds.
WATCH: Final = """
const [seconds, done] = arguments;
const seen = [];
const until = performance.now() + 1000 * seconds;
const look = () => {
  const { morphTargetDictionary: names, morphTargetInfluences: values } = head;
  seen.push([values[names.jawOpen], values[names.mouthClose]]);
  if (performance.now() < until) requestAnimationFrame(look);
  else done(seen);
};
look();
"""


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, voice(3.0, RATE), RATE, subtype="PCM_16")
    return path


def consume(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "python" / "consumer.py", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.live
def test_the_python_consumer_shows_the_jaw_at_the_pace_of_speech(
    synthetic_server: RunningServer, speech: Path
) -> None:
    begun = time.monotonic()
    done = consume(speech, "--url", synthetic_server.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert time.monotonic() - begun > 2.9
    *rows, last = done.stdout.splitlines()
    assert last == "90 frames, 0 lost"
    shown = [re.fullmatch(r" *([\d.]+) s  ([\d.]+) (#*)", row) for row in rows]
    assert len(shown) == 90
    assert [float(row[1]) for row in shown if row] == pytest.approx(np.arange(90) / 30, abs=0.006)
    jaw = np.array([float(row[2]) for row in shown if row])
    assert np.ptp(jaw) > 0.1
    assert [len(row[3]) for row in shown if row] == pytest.approx(40 * jaw, abs=0.8)


def test_the_python_consumer_says_what_the_server_said(
    synthetic_server: RunningServer, tmp_path: Path
) -> None:
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(4000), 4000, subtype="PCM_16")
    done = consume(path, "--url", synthetic_server.url)
    assert done.returncode == 1
    assert "rate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The three.js example with its package, served as its README says."""
    folder = tmp_path_factory.mktemp("site") / "threejs"
    shutil.copytree(EXAMPLES / "threejs", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm_install(folder)
    with files_served(folder) as address:
        yield address


@pytest.fixture
def browser(speech: Path, tmp_path: Path) -> Iterator[Any]:
    flags = ("use-angle=swiftshader", "enable-unsafe-swiftshader", "window-size=640,560")
    with chromium(speech, tmp_path / "profile", *flags) as chrome:
        yield chrome


@pytest.mark.browser
def test_the_three_js_head_opens_its_mouth_while_the_microphone_speaks(
    site: str, browser: Any, server: RunningServer
) -> None:
    browser.get(f"{site}/index.html?server=ws://127.0.0.1:{server.port}")
    still = np.array(browser.execute_async_script(WATCH, 0.2))
    assert (still == 0).all()
    targets = browser.execute_script("return Object.keys(head.morphTargetDictionary)")
    assert len(targets) == 23
    assert set(targets) <= set(ARKIT52)
    browser.find_element("css selector", "button").click()
    moving = np.array(browser.execute_async_script(WATCH, 3.0))
    assert np.ptp(moving[:, 0]) > 0.1
    log = browser.get_log("browser")
    assert [entry for entry in log if entry["level"] in ("SEVERE", "WARNING")] == []


def test_the_godot_example_is_gdscript() -> None:
    if importlib.util.find_spec("gdtoolkit") is None:
        pytest.skip("gdtoolkit is not installed")
    script = EXAMPLES / "godot" / "face.gd"
    done = subprocess.run(
        [sys.executable, "-m", "gdtoolkit.parser", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unity_example_is_c_sharp() -> None:
    tree_sitter: Any = pytest.importorskip("tree_sitter", reason="tree-sitter is not installed")
    grammar: Any = pytest.importorskip("tree_sitter_c_sharp", reason="no grammar of C#")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    code = (EXAMPLES / "unity" / "Face.cs").read_bytes()
    assert not parser.parse(code).root_node.has_error
    assert parser.parse(code.replace(b"{", b"(", 1)).root_node.has_error
