"""The page's controls in headless Chromium: emotion, plots, links, settings, words, layout."""

import re
from typing import Any, Final

import numpy as np
import pytest

from tests.page.page import PHONE, ROOT, Page

Keys: Any = pytest.importorskip(
    "selenium.webdriver.common.keys", reason="needs selenium: pip install selenium"
).Keys

VIEWER: Final = ROOT / "client" / "viewer"
SIZES: Final[dict[str, dict[str, Any] | None]] = {
    "desktop": None,
    "phone": PHONE,
    "small phone": PHONE | {"width": 360, "height": 640},
    "phone on its side": PHONE | {"width": 844, "height": 390},
}

# Whatever can be pressed and seen, with its place; hidden inputs are pressed by their labels.
TARGETS: Final = """
const seen = (e) => {
  const { width, height } = e.getBoundingClientRect();
  return width > 1 && height > 1 && e.checkVisibility();
};
const all = "button, a[href], select, summary, label:has(input), label[for=file], " +
  "input:not([type=checkbox], [type=file]), [tabindex='0']";
return [...document.querySelectorAll(all)].filter(seen).map((e) => {
  const { left, right, top, bottom, width, height } = e.getBoundingClientRect();
  return { who: e.id || e.textContent.trim(), left, right, top, bottom, width, height };
});
"""


def allow(page: Page, setting: str) -> None:
    """Whether the page may write to the clipboard: granted or denied."""
    permission = {"name": "clipboard-write", "allowWithoutSanitization": False}
    command = {"permission": permission, "setting": setting, "origin": page.url.rstrip("/")}
    page.driver.execute_cdp_cmd("Browser.setPermission", command)


# ---- emotion


def test_a_mixture_is_worn_weakened_and_left(page: Page) -> None:
    before = page.picture()
    button = page.find('[data-preset="bittersweet"]')
    button.click()
    assert page.find("#feeling").text == "sad 45 %, happy 40 %"
    assert button.get_attribute("aria-pressed") == "true"
    page.watch(1.5)
    assert page.picture() != before

    page.find("#intensity").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 17)
    assert page.find("#feeling").text == "sad 9 %, happy 8 %"
    assert button.get_attribute("aria-pressed") == "false"
    page.find('[data-emotion="angry"]').click()
    assert page.find("#feeling").text == "angry 17 %"
    page.find('[data-emotion="neutral"]').click()
    assert page.find("#feeling").text == "neutral"


def test_a_mixture_pressed_while_the_microphone_is_asked_for_waits_for_it(page: Page) -> None:
    page.script(
        """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
           navigator.mediaDevices.getUserMedia = (wanted) =>
             new Promise((done) => { globalThis.allow = () => done(ask(wanted)); });"""
    )
    page.find("#microphone").click()
    page.find('[data-preset="bittersweet"]').click()
    page.watch(0.3)
    assert page.script("return [kfusion.session, kfusion.state]") == [None, "asking"]
    page.script("allow()")
    page.until("kfusion.state === 'live'")
    assert page.script("return kfusion.session.start.emotion") == {"sad": 0.45, "happy": 0.4}


def test_the_pad_follows_a_finger(page: Page) -> None:
    with page.screen(PHONE):
        page.script("document.querySelector('#pad').scrollIntoView({ block: 'center' })")
        box = page.script("return document.querySelector('#pad').getBoundingClientRect().toJSON()")
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        away = {"x": middle[0], "y": middle[1] - 0.21 * box["height"]}
        for kind, points in (
            ("touchStart", [{"x": middle[0], "y": middle[1]}]),
            ("touchMove", [away]),
            ("touchEnd", []),
        ):
            touch = {"type": kind, "touchPoints": points}
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
        page.until("document.querySelector('#feeling').value === 'surprised 50 %'")


# ---- plots


def track(page: Page, name: str) -> Any:
    script = """
        const seen = [];
        kfusion.plot[arguments[0]].between(-Infinity, Infinity, (t, v) => seen.push([t, v]));
        return seen;
    """
    return np.array(page.script(script, name)).reshape(-1, 2)


def test_the_mouth_and_the_voice_lie_below_each_other_in_the_plot(page: Page) -> None:
    page.find("#microphone").click()
    page.until_state("live")
    page.until("kfusion.frame.n > 200")
    voice, mouth = track(page, "voice"), track(page, "mouth")
    times = np.arange(mouth[-1, 0] - 4.5, mouth[-1, 0] - 0.5, 1 / 60)
    opening = np.interp(times, *mouth.T)
    lags = np.arange(-30, 31) / 60
    alike = [np.corrcoef(opening, np.interp(times + lag, *voice.T))[0, 1] for lag in lags]
    assert max(alike) > 0.5
    assert abs(lags[int(np.argmax(alike))]) < 0.2
    coloured = page.script(
        """
        const plot = document.querySelector("#plot");
        const { data } = plot.getContext("2d").getImageData(0, 0, plot.width, plot.height);
        return data.filter((value, i) => i % 4 === 3 && value > 0).length / (data.length / 4);
        """
    )
    assert 0.1 < coloured < 0.9


# ---- links and settings


def test_opening_a_copied_link_brings_the_settings_back(page: Page) -> None:
    allow(page, "granted")
    page.find("#settings summary").click()
    page.find('#timing option[value="3-6"]').click()
    page.find("#life").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 8)
    page.find('[data-preset="smug"]').click()
    page.script("document.querySelector('#dots').click()")
    page.find("#share").click()
    page.until("document.querySelector('#share-words').textContent === 'Copied'")
    wanted = "?emotion=happy:0.35,contempt:0.55&lookahead=6&life=0.4&dots=1"
    link = page.driver.execute_async_script(
        """const done = arguments[0], field = document.body.appendChild(
             document.createElement("textarea"));
           field.focus();
           document.execCommand("paste") ? done(field.value)
             : navigator.clipboard.readText().then(done, () => done(null));"""
    )
    if link is None:  # this browser lets nobody read what was copied
        link = page.url + wanted
    assert link == page.url + wanted

    page.driver.get(link)
    page.until("globalThis.kfusion?.frame != null")
    assert page.find("#feeling").text == "contempt 55 %, happy 35 %"
    assert page.find('[data-preset="smug"]').get_attribute("aria-pressed") == "true"
    for setting, value in (("timing", "3-6"), ("life", "40"), ("media", "socket")):
        assert page.find(f"#{setting}").get_property("value") == value
    assert page.find("#dots").is_selected()
    page.until("kfusion.session?.open === true")
    started = page.script("return kfusion.session.start")
    assert (started["lookahead"], started["life"]) == (6, 0.4)
    assert started["emotion"] == {"contempt": 0.55, "happy": 0.35}


def test_where_nothing_can_be_copied_the_link_is_there_to_be_taken(page: Page) -> None:
    allow(page, "denied")
    page.driver.get(f"{page.url}?token=secret&media=webrtc&hop=5&lookahead=2")
    page.until("globalThis.kfusion?.frame != null")
    assert page.find("#timing").get_property("value") == "5-2"
    page.find("#share").click()
    page.until("!document.querySelector('#link-field').hidden")
    link = page.find("#link")
    assert link.get_property("value") == f"{page.url}?hop=5&lookahead=2&media=webrtc"
    assert page.driver.switch_to.active_element == link
    length = len(link.get_property("value"))
    assert page.script("return document.querySelector('#link').selectionEnd") == length


def test_settings_change_while_one_speaks(page: Page) -> None:
    page.find("#microphone").click()
    page.until_state("live")
    page.find("#settings summary").click()
    page.find('#timing option[value="3-0"]').click()
    page.until("kfusion.session?.ready?.lookahead === 0 && kfusion.state === 'live'")
    page.until("kfusion.frame.n > 5")
    assert page.script("return kfusion.session.start.life") == 1
    page.find("#life").send_keys(Keys.HOME)
    page.until("kfusion.session?.start.life === 0 && kfusion.session.open")


# ---- words


def states() -> list[str]:
    """All that the page's own modules can tell, and the codes that end a session."""
    found = {"idle", "no-webrtc", "lost", "unreachable", "unauthorized"}
    found |= {"insecure", "refused", "no-microphone", "microphone-busy", "done", "blocked"}
    found |= {"buffering", "playing", "full"}
    for name in ("net/controller.js", "main.js", "audio/input-controls.js"):
        code = (VIEWER / name).read_text()
        found |= set(re.findall(r'(?:onState|setState)\("([a-z-]+)"', code))
    return sorted(found)


@pytest.mark.parametrize("size", SIZES)
def test_every_state_has_words_of_its_own_that_are_not_cut(page: Page, size: str) -> None:
    with page.screen(SIZES[size]):
        told = page.run(
            """
            const { StatusPanel } = await import("/ui/status-panel.js");
            const status = document.querySelector("#status");
            const panel = new StatusPanel({ status });
            const name = "a-recording-of-somebody-who-gave-it-a-very-long-name-indeed.wav";
            const details = { file: name, wait: 12, message: "word ".repeat(40).trim() + "." };
            return a[0].map((state) => {
              panel.show(state, details);
              const { left, right } = status.getBoundingClientRect();
              const cut = status.scrollWidth > status.clientWidth + 1
                || status.scrollHeight > status.clientHeight + 1;
              return { state, text: status.textContent, cut, left, right };
            });
            """,
            [*states(), "internal"],
        )
        width = page.script("return innerWidth")
    assert "Start again." in told[-1]["text"] and "word." in told[-1]["text"]
    for said in told:
        assert not said["cut"], said
        assert said["left"] >= 0 and said["right"] <= width, said
        assert "{" not in said["text"] and "undefined" not in said["text"], said
    assert [s["state"] for s in told[:-1] if s["text"].startswith("The server stopped")] == []
    assert len({s["text"] for s in told}) == len(told)


# ---- layout


@pytest.mark.parametrize("size", SIZES)
def test_whatever_is_pressed_is_large_enough_and_on_the_screen(page: Page, size: str) -> None:
    with page.screen(SIZES[size]):
        page.script("document.querySelector('#settings').open = true")
        page.script("document.querySelector('#link-field').hidden = false")
        targets = page.script(TARGETS)
        width, across = page.script("return [innerWidth, document.documentElement.scrollWidth]")
    assert across <= width
    assert len(targets) > 20
    for target in targets:
        assert target["width"] >= 43.9, target
        assert target["height"] >= 43.9, target
        assert target["left"] >= 0 and target["right"] <= width, target


def test_on_a_phone_the_face_is_above_and_the_buttons_are_under_the_thumb(page: Page) -> None:
    with page.screen(PHONE):
        for scrolled in (0, 10_000):
            page.script("scrollTo(0, arguments[0])", scrolled)
            places = {t["who"]: t for t in page.script(TARGETS)}
            for name in ("microphone", "file-button", "record"):
                assert places[name]["top"] > 844 * 2 / 3
                assert places[name]["bottom"] <= 844
            face = page.script("return document.querySelector('#face').getBoundingClientRect()")
            assert face["top"] == 0
            assert face["height"] > 300
        page.script("scrollTo(0, 10000)")
        summary = {t["who"]: t for t in page.script(TARGETS)}["Settings"]
        assert summary["bottom"] <= 844 - 70  # not below the bar of buttons


def test_what_moves_of_itself_keeps_still_for_those_who_ask_for_it(page: Page) -> None:
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.find("#record").click()
        assert page.script("return document.getAnimations().length") == 0
        page.find("#record").click()
        page.until("!document.querySelector('#takes').hidden")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(page: Page) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    reached: dict[str, bool] = {}
    for _ in range(40):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        who, ring = page.script(
            """
            const e = document.activeElement;
            const labels = { file: e.nextElementSibling, photo: e.previousElementSibling };
            const shown = e.closest("label.chip") ?? labels[e.id] ?? e;
            const { outlineStyle, outlineWidth } = getComputedStyle(shown);
            return [e.id || e.dataset.emotion || e.dataset.preset || e.dataset.look || e.tagName,
              outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
            """
        )
        if who in reached or who == "BODY":
            break
        reached[who] = ring
    wanted = {"dots", "share", "microphone", "file", "record", "pad", "happy", "neutral"}
    assert wanted | {"intensity", "cheerful", "SUMMARY", "mira", "photo"} <= set(reached)
    assert [who for who, ring in reached.items() if not ring] == []
