"""Headless Chromium for pages that hear a microphone: a sound file, said over and over. And what
such pages need: packages of npm, and a server for files.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER: Final = shutil.which("chromedriver")
NPM: Final = shutil.which("npm")
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
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("chromium or chromedriver is not installed")
    pytest.importorskip("selenium", reason="selenium is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    heard = f"use-file-for-fake-audio-capture={speech}"
    for flag in (*FLAGS, heard, f"user-data-dir={profile}", *flags):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    chrome = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        chrome.set_script_timeout(WAIT_S)
        chrome.set_page_load_timeout(WAIT_S)
        yield chrome
    finally:
        chrome.quit()


def npm_install(folder: Path, *packages: str) -> Path:
    """Has npm fetch packages, or those that the folder asks for, into its node_modules, which is
    given; a skip where npm is not installed or reaches no registry.
    """
    if NPM is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", *packages],
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
