"""The picture of a photo that speaks, and the page's portraits, in headless Chromium."""

import json
from typing import Final

import numpy as np
import pytest

from tests.page.page import ROOT, Page
from tests.page.photos import DRAWN, rest_of

COUNTS: Final = "return [performance.now(), kfusion.stats.drawn, kfusion.stats.frames]"

# ---- the picture

LOOK: Final = (
    DRAWN
    + """
const { photoLook } = await import(new URL("photo/face-picker.js", location.href));
const { meshTable } = await import(new URL("photo/face-mesh.js", location.href));
const table = await meshTable();
const shown = (photo, seen) => {
  const look = photoLook(table, "test", photo, seen);
  const { canvas } = look.drawer;
  canvas.style = "position: fixed; inset: 0; width: 640px; height: 660px; z-index: 9";
  document.body.append(canvas);
  look.drawer.resize();
  const small = document.createElement("canvas");
  const pixel = (points, x, y) => {
    look.drawer.draw(Float32Array.from(points));
    const [sx, sy, tx, ty] = look.drawer.view;
    small.width = small.height = 5;
    const g = small.getContext("2d", { willReadFrequently: true });
    const left = ((x * sx + tx + 1) / 2) * canvas.width - 2;
    const top = ((1 - (y * sy + ty)) / 2) * canvas.height - 2;
    g.drawImage(canvas, left, top, 5, 5, 0, 0, 5, 5);
    const { data } = g.getImageData(0, 0, 5, 5);
    return [0, 1, 2].map((k) => data.filter((_, i) => i % 4 === k).reduce((s, v) => s + v) / 25);
  };
  return { look, pixel, canvas };
};
const mean = (colour) => colour.reduce((sum, v) => sum + v) / 3;
"""
)


def test_the_mouth_opens_darkly_and_the_eyes_shut_under_skin(page: Page) -> None:
    seen = page.run(
        LOOK
        + """
        const seen = placed(marks.NEUTRAL);
        const { look, pixel, canvas } = shown(paint(marks.NEUTRAL), seen);
        const { size, down } = marks.axesOf(seen);
        const mouth = [seen[124], seen[125] + 0.13 * size];
        const lids = [37, 38, 40, 41];
        const eye = [0, 1].map((k) => lids.reduce((s, i) => s + seen[2 * i + k], 0) / 4);
        const shut = seen.slice();
        for (const [top, low] of [[37, 41], [38, 40], [43, 47], [44, 46]]) {
          const gap = shut[2 * low + 1] - shut[2 * top + 1];
          shut[2 * top + 1] += gap;
        }
        const answer = {
          lips: mean(pixel(look.rest, ...mouth)),
          open: mean(pixel(marks.parted(look.rest, 0.24 * size), ...mouth)),
          eye: mean(pixel(look.rest, ...eye)),
          shut: mean(pixel(shut, eye[0], eye[1] - 0.01 * size)),
          skin: mean(pixel(look.rest, seen[60], seen[61] - 0.02 * size)),
        };
        look.drawer.close();
        return answer;
        """,
    )
    assert seen["open"] < 0.6 * seen["lips"]
    assert abs(seen["shut"] - seen["skin"]) < abs(seen["eye"] - seen["skin"])


def test_a_mouth_that_is_open_in_the_photo_is_shut_at_rest(page: Page) -> None:
    seen = page.run(
        LOOK
        + """
        const open = marks.parted(marks.NEUTRAL, 16);
        const seen = placed(open);
        const { look, pixel } = shown(paint(open), seen);
        const { size } = marks.axesOf(seen);
        const middle = [0, 1].map((k) => (seen[2 * 62 + k] + seen[2 * 66 + k]) / 2);
        const answer = {
          gap: marks.lipGap(look.rest) / size,
          seen: marks.lipGap(look.drawer.mesh.seen) / size,
          dark: mean(pixel(seen, ...middle)),
          shut: mean(pixel(look.rest, ...middle)),
          sent: look.identity.points.length,
        };
        look.drawer.close();
        return answer;
        """,
    )
    assert seen["gap"] == pytest.approx(0, abs=1e-6)
    assert seen["seen"] > 0.15
    assert seen["shut"] > seen["dark"] + 40  # a lip is where the opening was
    assert seen["sent"] == 68


def test_a_lost_graphics_context_comes_back_with_the_picture(page: Page) -> None:
    seen = page.run(
        LOOK
        + """
        const { look, pixel, canvas } = shown(paint(marks.NEUTRAL), placed(marks.NEUTRAL));
        const before = pixel(look.rest, 200, 300);
        const lose = look.drawer.gl.getExtension("WEBGL_lose_context");
        const once = { once: true };
        const event = (name) => new Promise((go) => canvas.addEventListener(name, go, once));
        const lost = event("webglcontextlost");
        lose.loseContext();
        await lost;
        look.drawer.draw(look.rest);
        const back = event("webglcontextrestored");
        await new Promise((go) => setTimeout(go));
        lose.restoreContext();
        await back;
        const after = pixel(look.rest, 200, 300);
        look.drawer.close();
        return { before, after };
        """,
    )
    np.testing.assert_allclose(seen["after"], seen["before"], atol=2)
    assert min(seen["before"]) > 20


# ---- portraits that come with the page


def test_each_portrait_of_the_page_can_be_chosen_without_the_finder(page: Page) -> None:
    page.script("document.querySelector('#dots').click()")
    listed = json.loads((ROOT / "client" / "viewer" / "portraits" / "portraits.json").read_text())
    for entry in listed:
        page.until(f"document.querySelector('[data-look=\"{entry['name']}\"]') !== null")
        page.find(f'[data-look="{entry["name"]}"]').click()
        page.until(f"kfusion.look.name === {json.dumps(entry['name'])}")
        shown = "kfusion.look.drawer.canvas"
        assert page.script(f"return [kfusion.look.drawer.dots, {shown}.hidden]") == [True, False]
        assert page.script(f"return {shown}.parentNode.id") == "faces"
        assert page.script("return document.querySelector('#face').hidden") is True
        np.testing.assert_allclose(rest_of(page), entry["points"], atol=1.0)
    assert not [url for url in page.requested() if "vendor" in url]


@pytest.mark.live
@pytest.mark.parametrize("look", ["drawn", "mira"])
def test_a_face_that_speaks_is_drawn_often_and_takes_little_script(page: Page, look: str) -> None:
    page.driver.get(f"{page.url}?look={look}")
    page.until(f"globalThis.kfusion?.look.name === '{look}'")
    page.find("#microphone").click()
    page.until("kfusion.stats.received > 30")
    rate, script = 0.0, 0.0
    for _ in range(3):  # what else the machine does counts against it
        began, drawn, first = page.script(COUNTS)
        page.driver.execute_async_script("setTimeout(arguments[0], 4000)")
        ended, more, last = page.script(COUNTS)
        ring = np.array(page.script("return [...kfusion.stats.times]"))
        script = float(np.quantile(ring[np.arange(first, last) % len(ring)], 0.95))
        rate = 1000 * (more - drawn) / (ended - began)
        print(f"{rate:.0f} pictures a second, 95 % within {script:.1f} ms of script")
        if rate > 30 and script < 20:
            break
    assert rate > 30 and script < 20
