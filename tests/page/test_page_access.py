"""The page for everyone: what axe-core finds wrong with it, on two screens in both schemes."""

from typing import Any, Final

import pytest

from tests.page.page import PHONE, Page

BAD: Final = ("serious", "critical")


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
        page.until("kfusion.recording.seconds > 0.2 && kfusion.session?.open === true")
        assert faults(page, axe) == []
        page.script("document.getElementById('record').click()")
        page.until("!document.querySelector('#takes').hidden")
        assert faults(page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_nobody_is_kept_from_setting_points_right(
    page: Page, axe: str, size: dict[str, Any] | None, scheme: str
) -> None:
    with page.screen(size, scheme):
        page.script(
            """
            const modules = [import("/photo/adjust-points.js"), import("/face/landmarks.js")];
            Promise.all(modules).then(([m, marks]) => {
              const photo = document.createElement("canvas");
              photo.width = photo.height = 512;
              m.adjustPoints(photo, marks.NEUTRAL.map((v) => 2 * v));
            });
            """
        )
        page.until("document.querySelectorAll('dialog[open] .points button').length === 68")
        assert faults(page, axe) == []
