"""What installs where: the client without torch, the wheel with its page and weights."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

import kfusion
from client.face_files import PORTRAITS, read_portrait
from kfusion.landmarks import INNER_LOWER, INNER_UPPER, Identity, inter_ocular
from tests.conftest import voice

ROOT = Path(__file__).resolve().parents[2]

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "onnxruntime", "scipy", "safetensors"):
            raise ImportError(f"{name} is not for a client")
sys.meta_path.insert(0, Refuse())
"""


LIGHT_MODULES: Final = """
import kfusion.audio, kfusion.emotion, kfusion.errors, kfusion.faces.decode
import kfusion.faces.resting_face, kfusion.landmarks, kfusion.runtime, kfusion.stream, kfusion.wire
import client.sdk, client.__main__, client.cli.identity
import server.__main__, server.pictures.queue, server.session.session
"""
SYNTHETIC_SERVER: Final = """
import asyncio
from server.app import App
from server.config import ServerConfig
app = App(ServerConfig(port=0, engine="synthetic", pictures=False))
async def main():
    async with app.serving():
        print(app.registry.model.name)
asyncio.run(main())
"""
BUNDLED_MODEL: Final = """
import sys, numpy, kfusion
frames = kfusion.load(engine="onnx").animate(numpy.zeros(16_000), 16_000)
print(frames.shape, "torch" in sys.modules)
"""
TORCH_MODEL: Final = """
import kfusion
from kfusion.errors import MissingExtra
try:
    kfusion.load(engine="torch")
except MissingExtra as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (NO_TORCH + LIGHT_MODULES, ""),
        (NO_TORCH + SYNTHETIC_SERVER, "synthetic"),
        (NO_TORCH.replace('"onnxruntime", ', "") + BUNDLED_MODEL, "(30, 68, 2) False"),
        (NO_TORCH + TORCH_MODEL, "kfusion[torch]"),
    ],
    ids=["imports", "synthetic server", "bundled model", "torch model"],
)
def test_without_torch(code: str, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert output in done.stdout


def test_the_changelog_begins_with_this_version() -> None:
    found = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert next(name for name in found if name != "Unreleased") == kfusion.__version__


# The page's portraits, which nothing makes again


def test_the_portraits_are_light_faces_with_closed_lips() -> None:
    folder = PORTRAITS.parent
    entries = json.loads(PORTRAITS.read_text("utf-8"))
    assert all(set(e) == {"name", "label", "image", "points"} and e["label"] for e in entries)
    assert {p.name for p in folder.iterdir()} == {PORTRAITS.name, *(e["image"] for e in entries)}
    assert len({e["name"] for e in entries}) == len(entries) == 2
    for entry in entries:
        assert (folder / entry["image"]).stat().st_size < 70_000
        pixels, points = read_portrait(entry["name"])
        Identity.from_points(points)
        height, width = pixels.shape[:2]
        assert (points > 0).all() and (points < (width, height)).all()
        assert inter_ocular(points) > width / 5
        gap = points[list(INNER_LOWER)] - points[list(INNER_UPPER)]
        assert np.abs(gap).max() <= 0.5


# A wheel made from a source distribution, in an environment of its own

LEFT_OUT: Final = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "node_modules", "__pycache__", ".*_cache"
)
SDIST: Final = (
    "import sys; from setuptools import build_meta as b; print(b.build_sdist(sys.argv[1]))"
)


@dataclass(frozen=True)
class Installed:
    """A fresh environment's ``bin``, and what was built for it. ``folder`` is none of ours."""

    folder: Path
    bin: Path
    sdist: Path
    wheel: Path

    def pip(self, *arguments: str | Path) -> None:
        command = [self.bin / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        self.run(*command, *arguments)

    def run(self, *command: str | Path, status: int = 0) -> str:
        """Its output, run where the checkout is not to be found."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel with the extra ``client``, as its constraints say."""
    folder = tmp_path_factory.mktemp("installed")
    source, built = folder / "source", folder / "built"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    venv.create(folder / "env", with_pip=True)
    made = Installed(folder, folder / "env" / "bin", built / "none", built / "none")
    made.pip("install", "setuptools>=77")
    built.mkdir()
    subprocess.run(
        [made.bin / "python", "-c", SDIST, built], cwd=source, capture_output=True, check=True
    )
    (sdist,) = built.glob("*.tar.gz")
    made.pip("wheel", "--no-deps", "--wheel-dir", built, sdist)
    (wheel,) = built.glob("*.whl")
    shutil.rmtree(source)
    made.pip("install", "--constraint", ROOT / "constraints.txt", f"{wheel}[client]")
    return Installed(folder, made.bin, sdist, wheel)


@pytest.mark.slow
def test_the_wheel_holds_the_page_the_weights_and_the_recipes(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    for package in ("kfusion", "server", "client", "training"):
        missing = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and not {"__pycache__", "results"} & set(path.parts)
        } - names
        assert missing <= {"training/RESULTS.md"}
    assert not [name for name in names if name.split("/")[0] in ("tests", "docs", "examples")]
    assert not [name for name in names if "node_modules" in name]


@pytest.mark.slow
def test_the_source_holds_what_the_tests_read(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "constraints.txt",
        "docs/protocol.md", "docs/face.webp", "examples/python/consumer.py", "tests/conftest.py",
        "tests/golden/vmc0.hex", "training/RESULTS.md", "client/viewer/index.html",
    }  # fmt: skip
    assert wanted <= names


@pytest.mark.slow
def test_a_client_that_is_installed_has_no_torch_and_its_version(installed: Installed) -> None:
    code = (
        "import importlib.metadata as m, importlib.util as u, kfusion, client.sdk, client.__main__;"
        "assert not [p for p in ('torch', 'onnxruntime', 'scipy') if u.find_spec(p)];"
        "assert kfusion.__version__ == m.version('kfusion'); print(kfusion.__version__)"
    )
    assert installed.run(installed.bin / "python", "-c", code).strip() == kfusion.__version__
    said = installed.run(installed.bin / "kfusion-client", "--version")
    assert said == f"kfusion {kfusion.__version__}\n"


@pytest.fixture(scope="module")
def served(installed: Installed) -> Iterator[str]:
    """The address of ``kfusion-server`` of that environment, with the extra ``server`` too."""
    installed.pip("install", "--constraint", ROOT / "constraints.txt", f"{installed.wheel}[server]")
    process = subprocess.Popen(
        [installed.bin / "kfusion-server", "--port", "0"],
        cwd=installed.folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KFUSION"))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = next((line for line in process.stdout if "is ready" in line), "")
        found = re.search(r"KFusion \(compact-onnx\) is ready: open http://([^/]+)/", line)
        assert found, line
        yield found[1]
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


@pytest.mark.slow
def test_what_is_installed_serves_its_page(served: str) -> None:
    with urllib.request.urlopen(f"http://{served}/", timeout=10) as answer:
        page = answer.read().decode()
    scripts = re.findall(r'(?:src|href)="([\w./-]+\.(?:js|css|svg))"', page)
    assert "KFusion" in page and scripts
    for name in scripts:
        with urllib.request.urlopen(f"http://{served}/{name}", timeout=10) as answer:
            assert answer.read()


@pytest.mark.slow
def test_what_is_installed_animates_a_file(installed: Installed, served: str) -> None:
    speech = installed.folder / "speech.wav"
    soundfile.write(speech, voice(1.0), 16_000)
    command = [installed.bin / "kfusion-client", "file", speech, "--out", "frames.jsonl"]
    installed.run(*command, "--url", f"ws://{served}")
    lines = (installed.folder / "frames.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(30))
