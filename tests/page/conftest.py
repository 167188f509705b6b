"""What the page's tests share: one Chromium for all, a fresh tab for each."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from client import parts
from tests.conftest import RunningServer
from tests.page.browser import chromium, npm_install
from tests.page.page import Page, fresh_page, write_speech
from tests.page.photos import DRAWN, FOUND_S

AXE: Final = "axe-core@4.14.1"
FLAGS: Final = (
    "window-size=1280,900",
    "disable-gpu",
    "disable-quic",
    "use-angle=swiftshader",  # WebGL alone pretends to have a graphics card
    "enable-unsafe-swiftshader",
    "allow-loopback-in-peer-connection",
)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone says over and over."""
    return write_speech(tmp_path_factory.mktemp("speech") / "speech.wav")


@pytest.fixture(scope="session")
def driver(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("profile")
    with chromium(speech, profile, *FLAGS, logs=("browser", "performance")) as chrome:
        chrome.set_script_timeout(FOUND_S)
        yield chrome


@pytest.fixture
def page(driver: Any, synthetic_server: RunningServer) -> Iterator[Page]:
    with fresh_page(driver, f"{synthetic_server.http}/") as page:
        yield page


@pytest.fixture
def model_page(driver: Any, server: RunningServer) -> Iterator[Page]:
    """The page of a server with the bundled model."""
    with fresh_page(driver, f"{server.http}/") as page:
        yield page


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The code of axe-core, fetched by npm."""
    packages = npm_install(tmp_path_factory.mktemp("axe"), AXE)
    return (packages / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def finder() -> None:
    """The face finder beside the page, fetched if it is not there."""
    if not parts.present():
        try:
            parts.fetch()
        except parts.PartsMissing as error:
            pytest.skip(f"the face finder cannot be had: {error}")


@pytest.fixture(scope="session")
def picture(driver: Any, synthetic_server: RunningServer) -> Any:
    """The drawn face as a picture, 640 x 660."""
    image: Any = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    page = Page(driver, f"{synthetic_server.http}/")
    page.open()
    data = page.run(DRAWN + "return paint(marks.NEUTRAL).toDataURL('image/png');")
    return image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")
