"""What installs where: the client without torch, the wheel with its page and weights."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "onnxruntime", "scipy", "safetensors"):
            raise ImportError(f"{name} is not for a client")
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize(
    "module",
    [
        "kfusion", "kfusion.landmarks", "kfusion.emotion", "kfusion.audio", "kfusion.stream",
        "kfusion.wire", "kfusion.errors", "kfusion.runtime", "client", "client.sdk",
        "client.__main__", "server.session", "server.__main__",
    ],
)  # fmt: skip
def test_the_light_half_imports_without_torch(module: str) -> None:
    code = f"{NO_TORCH}\nimport {module}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_synthetic_server_runs_without_torch() -> None:
    code = f"""{NO_TORCH}
from server.app import App
from server.config import ServerConfig
print(App(ServerConfig(engine="synthetic")).model.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.stdout.decode().strip() == "synthetic", done.stderr.decode()


NO_TORCH_BUT_ONNX = NO_TORCH.replace('"onnxruntime", ', "")


def test_the_bundled_model_runs_without_torch() -> None:
    code = f"""{NO_TORCH_BUT_ONNX}
import sys, numpy, kfusion
frames = kfusion.load(engine="onnx").animate(numpy.zeros(16_000), 16_000)
print(frames.shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.stdout.decode().strip() == "(30, 68, 2) False", done.stderr.decode()


def test_without_torch_the_model_says_what_to_install() -> None:
    code = f"{NO_TORCH}\nimport kfusion\nkfusion.load(engine='torch')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert b"MissingExtra" in done.stderr and b"kfusion[torch]" in done.stderr


@pytest.mark.skipif(
    not os.environ.get("CI"), reason="builds a fresh environment from the package index: CI only"
)
def test_a_fresh_environment_with_the_client_extra_has_no_torch(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[client]"],
        check=True, timeout=600,
    )  # fmt: skip
    code = (
        "import sys, kfusion, client.sdk, client.__main__, importlib.util as u;"
        "assert u.find_spec('torch') is None and 'torch' not in sys.modules;"
        "from importlib.resources import files;"
        "assert (files('client') / 'viewer' / 'index.html').is_file();"
        "assert (files('kfusion') / 'weights' / 'compact.safetensors').is_file()"
    )
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
