"""Headless Chromium whose microphone plays a sound file, packages of npm, a server for files."""

import functools
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import program

NO_NETWORK: Final = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
WAIT_S: Final = 20.0
FLAGS: Final = (
    "headless",
    "no-sandbox",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "use-fake-ui-for-media-stream",
    "use-fake-device-for-media-stream",
    "autoplay-policy=no-user-gesture-required",
)


@contextmanager
def chromium(
    speech: Path, profile: Path, *flags: str, logs: tuple[str, ...] = ("browser",)
) -> Generator[Any]:
    """A driver, whose ``logs`` are kept; a skip where Chromium or selenium is not installed."""
    binary = program("chromium", "chromium")
    service = program("chromedriver", "chromium-driver")
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    microphone = f"use-file-for-fake-audio-capture={speech}"
    for flag in (*FLAGS, microphone, f"user-data-dir={profile}", *flags):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    chrome = webdriver.Chrome(options=options, service=Service(service))
    try:
        chrome.set_script_timeout(WAIT_S)
        chrome.set_page_load_timeout(WAIT_S)
        yield chrome
    finally:
        chrome.quit()


def npm_install(folder: Path, *packages: str) -> Path:
    """The node_modules with packages, or those that the folder asks for, fetched by npm; a skip
    where npm is not installed or reaches no registry.
    """
    done = subprocess.run(
        [
            program("npm", "npm"),
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
            *packages,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if any(code in done.stderr for code in NO_NETWORK):
        pytest.skip("npm does not reach its registry")
    assert done.returncode == 0, done.stderr
    return folder / "node_modules"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def files_served(folder: Path) -> Generator[str]:
    """The address at which the files of a folder are, and nothing else answers."""
    handler = functools.partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()
            thread.join()
