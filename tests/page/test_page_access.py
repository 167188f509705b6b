"""The page for everyone: what axe-core finds wrong with it, on two screens in both schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import RunningServer
from tests.page.browser import CHROMEDRIVER, CHROMIUM, npm_install
from tests.page.page import PHONE, Page, browser, fresh_page, write_speech

pytest.importorskip("selenium", reason="selenium is not installed")

AXE: Final = "axe-core@4.14.1"
BAD: Final = ("serious", "critical")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(CHROMEDRIVER is None, reason="chromedriver is not installed"),
]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The code of axe-core, fetched by npm."""
    packages = npm_install(tmp_path_factory.mktemp("axe"), AXE)
    return (packages / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def server_url(synthetic_server: RunningServer) -> str:
    return f"{synthetic_server.http}/"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("browser")
    speech = write_speech(folder / "speech.wav")
    with browser(speech, folder / "profile", "window-size=1280,800") as chrome:
        yield chrome


@pytest.fixture
def page(driver: Any, server_url: str) -> Iterator[Page]:
    with fresh_page(driver, server_url) as page:
        yield page


def faults(page: Page, axe: str) -> list[str]:
    """What axe finds that keeps people from using the page: rule, how bad, where."""
    page.script(axe)
    found = page.driver.execute_async_script(
        "axe.run().then((r) => arguments[0](r.violations), (e) => arguments[0](String(e)))"
    )
    assert isinstance(found, list), found
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:120]} {node['failureSummary']}"
        for fault in found
        for node in fault["nodes"]
        if fault["impact"] in BAD
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_nobody_is_kept_out(page: Page, axe: str, size: dict[str, Any] | None, scheme: str) -> None:
    with page.screen(size, scheme):
        assert faults(page, axe) == []
        # Everything that can be opened or turned on, with bad news.
        page.script(
            """
            for (const id of ["dots", "record"]) document.getElementById(id).click();
            document.querySelector("[data-preset]").click();
            document.querySelector("#settings").open = true;
            document.querySelector("#link-field").hidden = false;
            for (const id of ["status", "delay-words"]) {
              document.getElementById(id).dataset.mood = "bad";
            }
            document.getElementById("loss-words").dataset.mood = "warn";
            """
        )
        page.until("return kfusion.recording.seconds > 0.2 && kfusion.session?.open === true")
        assert faults(page, axe) == []
        page.script("document.getElementById('record').click()")
        page.until("return !document.querySelector('#takes').hidden")
        assert faults(page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_nobody_is_kept_from_setting_points_right(
    page: Page, axe: str, size: dict[str, Any] | None, scheme: str
) -> None:
    with page.screen(size, scheme):
        page.script(
            """
            const modules = [import("/photo/adjust.js"), import("/face/landmarks.js")];
            Promise.all(modules).then(([m, marks]) => {
              const photo = document.createElement("canvas");
              photo.width = photo.height = 512;
              m.adjust(photo, marks.NEUTRAL.map((v) => 2 * v));
            });
            """
        )
        page.until("return document.querySelectorAll('dialog[open] .points button').length === 68")
        assert faults(page, axe) == []


def test_axe_sees_what_is_wrong(page: Page, axe: str) -> None:
    page.script("document.body.append(document.createElement('button'))")
    assert any(fault.startswith("button-name (critical)") for fault in faults(page, axe))
