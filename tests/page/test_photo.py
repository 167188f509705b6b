"""A photo on the page in headless Chromium: found, set right, and warped by what is streamed."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.face_files import read_identity
from kfusion.landmarks import inter_ocular, lip_gap
from tests.page.page import Page
from tests.page.photos import DRAWN, FOUND_S, PLACED, rest_of, take_photo

pytestmark = pytest.mark.usefixtures("finder")


def test_a_photo_is_found_and_speaks(page: Page, picture: Any, tmp_path: Path) -> None:
    take_photo(page, picture, tmp_path / "face.png")
    rest = rest_of(page)
    size = float(inter_ocular(PLACED))
    assert np.linalg.norm(rest - PLACED, axis=1).mean() < 0.1 * size
    page.find("#microphone").click()
    page.until_state("live")
    page.until("kfusion.frame.n > 5")
    sent = page.script("return kfusion.session.start.identity.points")
    np.testing.assert_allclose(sent, rest, atol=1e-3)
    seen = page.watch(3.0)
    assert np.ptp(seen.lip_gap()) > 0.03 * size
    assert np.linalg.norm(seen.points - rest, axis=2).max() < 0.35 * size
    page.find("#microphone").click()
    page.until_state("quiet")
    page.watch(1.5)
    assert abs(page.watch(0.2).lip_gap()[-1]) < 0.012 * size


def test_only_the_points_of_a_photo_are_sent(page: Page, picture: Any, tmp_path: Path) -> None:
    page.driver.get_log("performance")
    take_photo(page, picture, tmp_path / "face.png")
    page.find('[data-emotion="happy"]').click()
    page.until("kfusion.frame.n > 5")
    events = [json.loads(e["message"])["message"] for e in page.driver.get_log("performance")]
    asked = [e["params"]["request"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {r["method"] for r in asked} == {"GET"}
    frames = [
        e["params"]["response"] for e in events if e["method"] == "Network.webSocketFrameSent"
    ]
    said = [json.loads(f["payloadData"]) for f in frames if f["opcode"] == 1]
    start = next(m for m in said if m["type"] == "start")
    assert set(start["identity"]) == {"points"}
    assert {m["type"] for m in said} <= {"start", "emotion", "silence", "identity"}


def test_points_are_moved_with_keys_and_fingers_and_cancel_leaves_the_face(
    page: Page, picture: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    picture.save(tmp_path / "face.png")
    page.find("#photo").send_keys(str(tmp_path / "face.png"))
    page.until("document.querySelector('dialog.adjust[open]') !== null", FOUND_S)
    assert page.script("return document.querySelectorAll('.point').length") == 68
    page.script("document.querySelectorAll('.adjust .views button')[1].click()")
    shown = "return [...document.querySelectorAll('.point:not([hidden])')].length"
    assert page.script(shown) == 20
    point = page.find('[data-point="57"]')
    before = point.rect
    point.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert point.rect["y"] > before["y"] and point.rect["x"] == pytest.approx(before["x"], abs=1)
    before = point.rect
    photo = page.find(".adjust .photo")
    middle = (photo.rect["x"] + photo.rect["width"] / 2, photo.rect["y"] + photo.rect["height"] / 2)
    # Beside the point, not on it: a finger would cover it.
    to = (round(before["x"] + 5 - middle[0] + 8), round(before["y"] + 5 - middle[1] + 8))
    chain = ActionChains(page.driver).move_to_element_with_offset(photo, *to)
    chain.click_and_hold().move_by_offset(30, 12).release().perform()
    assert point.rect["x"] - before["x"] == pytest.approx(30, abs=2)
    assert point.rect["y"] - before["y"] == pytest.approx(12, abs=2)
    page.find(".adjust .again").click()
    assert point.rect["x"] == pytest.approx(before["x"], abs=1)
    page.find(".adjust").send_keys(Keys.ESCAPE)
    page.until("document.querySelector('dialog.adjust') === null", FOUND_S)
    assert page.script("return kfusion.look.name") == "drawn"


def test_the_newest_of_several_photos_is_told_of(page: Page) -> None:
    told = page.run(
        DRAWN
        + """
        const { FacePicker } = await import(new URL("photo/face-picker.js", location.href));
        const section = document.createElement("section");
        const told = [];
        const choice = new FacePicker({
          section, drawn: {}, setLook: (look) => (choice.shown = look),
          showNotice: (state) => told.push(state),
        });
        const blob = await new Promise((go) => paint(marks.NEUTRAL).toBlob(go));
        const give = () => choice.photo(new File([blob], "face.png"));
        const checks = async (count) => {
          while (told.filter((word) => word === "photo-check").length < count) {
            if (told.at(-1) === "photo-failed") throw new Error(told);
            await new Promise((go) => setTimeout(go, 50));
          }
        };
        const answer = (name) => document.querySelector(`dialog.adjust [value="${name}"]`).click();
        give();
        await checks(1);
        const second = give(); // while the first is asked about
        await checks(2);
        answer("use");
        await second;
        section.querySelector("#adjust-photo").click();
        const third = give(); // while the second is set right
        await checks(3);
        answer("cancel");
        await third;
        choice.shown.drawer.close();
        return told;
        """,
    )
    asked = ["photo-looking", "photo-check"]
    assert told == [*asked, *asked, "photo-ready", *asked, None]


def test_another_face_in_the_middle_of_speech_is_never_drawn_with_the_old_ones_points(
    page: Page, picture: Any, tmp_path: Path
) -> None:
    take_photo(page, picture, tmp_path / "face.png")
    page.find('[data-look="drawn"]').click()
    page.find("#microphone").click()
    page.until_state("live")
    page.until("kfusion.frame.n > 15")
    seen = page.run(
        """
        const seen = [];
        const began = performance.now();
        let clicked = 0;
        while (performance.now() - began < 4000) {
          const wanted = Math.floor((performance.now() - began) / 1300);
          if (wanted > clicked) {
            const name = wanted % 2 ? "photo" : "drawn";
            document.querySelector(`[data-look="${name}"]`).click();
            clicked = wanted;
          }
          await new Promise((go) => requestAnimationFrame(go));
          await new Promise((go) => requestAnimationFrame(go));
          const { look, frame } = kfusion;
          seen.push([look.name, frame.n, Array.from(look.rest), Array.from(frame.points)]);
        }
        return seen;
        """,
    )
    assert {name for name, *_ in seen} == {"drawn", "photo"}
    for name, _, rest, points in seen:
        face, drawn = np.reshape(rest, (68, 2)), np.reshape(points, (68, 2))
        far = np.linalg.norm(drawn - face, axis=1).max()
        assert far < 0.35 * inter_ocular(face), name
    n = [s[1] for s in seen]
    assert (np.diff(n) >= 0).all() and n[-1] - n[0] > 60


def test_the_points_are_saved_in_pixels_of_the_file(
    page: Page, picture: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    take_photo(page, picture.resize((2560, 2640)), tmp_path / "large.png")
    page.find("#save-points").click()
    path = folder / "face.json"
    deadline = time.monotonic() + FOUND_S
    while not path.is_file():
        assert time.monotonic() < deadline
        page.driver.execute_async_script("setTimeout(arguments[0], 50)")
    points = read_identity(path)
    size = 4 * float(inter_ocular(PLACED))
    assert np.linalg.norm(points - 4 * PLACED, axis=1).mean() < 0.1 * size
    assert lip_gap(points) == pytest.approx(0, abs=0.01)
    told = json.loads(path.read_text())
    assert (told["width"], told["height"]) == (2560, 2640)
    assert np.abs(np.array(told["photo"]) - points).max() < 0.1 * size
