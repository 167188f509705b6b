"""A photo on the page: found, set right, and warped by what is streamed, in headless Chromium."""

from __future__ import annotations

import base64
import functools
import io
import json
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from client import parts
from client.face_files import read_identity
from kfusion.landmarks import NEUTRAL, Identity, inter_ocular, lip_gap
from kfusion.runtime import Animator
from kfusion.wire import IdentityPoints, SetIdentity, Start, parse_client
from tests.conftest import RunningServer, voice
from tests.page.browser import CHROMEDRIVER, CHROMIUM, files_served
from tests.page.page import Page, browser, fresh_page

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

RATE: Final = 16000
VIEWER: Final = Path(__file__).parents[2] / "client" / "viewer"
FOUND_S: Final = 90.0  # without a graphics card the finder takes seconds, on a busy machine many
PLACED: Final = 2 * (NEUTRAL + np.array([32, 58]))  # the points of the drawn face in its photo
FLAGS: Final = (
    "use-angle=swiftshader",  # WebGL alone pretends to have a graphics card
    "enable-unsafe-swiftshader",
    "window-size=1280,900",
)

COUNTS: Final = "return [performance.now(), kfusion.stats.drawn, kfusion.stats.frames]"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(CHROMEDRIVER is None, reason="chromedriver is not installed"),
]

# The drawn face on a canvas of its own, as a photo of 640 x 660 whose points are known.
DRAWN: Final = """
const { Face } = await import(new URL("face/face.js", location.href));
const marks = await import(new URL("face/landmarks.js", location.href));
const paint = (points) => {
  const drawn = document.createElement("canvas");
  drawn.style = "position: fixed; width: 640px; height: 660px";
  document.body.append(drawn);
  const face = new Face(drawn);
  face.resize();
  face.draw(points);
  const photo = document.createElement("canvas");
  photo.width = 640;
  photo.height = 660;
  const g = photo.getContext("2d");
  g.fillStyle = "#c9d4dc";
  g.fillRect(0, 0, 640, 660);
  g.drawImage(drawn, 0, 0, 640, 660);
  drawn.remove();
  return photo;
};
const placed = (points) => points.map((v, i) => 2 * (v + (i % 2 ? 58 : 32)));
"""


def run(page: Page, body: str, *arguments: Any) -> Any:
    """What an async function with this body returns in the page; ``a`` are the arguments."""
    script = f"""
        const [a, done] = arguments;
        (async () => {{ {body} }})().then(
          (value) => done({{ value }}), (error) => done({{ error: String(error) }}));
    """
    answer = page.driver.execute_async_script(script, arguments)
    assert "error" not in answer, answer["error"]
    return answer["value"]


@pytest.fixture(scope="module")
def finder() -> None:
    """The face finder beside the page, fetched if it is not there."""
    if not parts.present():
        try:
            parts.fetch()
        except parts.PartsMissing as error:
            pytest.skip(f"the face finder cannot be had: {error}")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, voice(6.0, RATE), RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def driver(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("profile")
    with browser(speech, profile, *FLAGS) as chrome:
        chrome.set_script_timeout(FOUND_S)
        yield chrome


@pytest.fixture
def page(driver: Any, server: RunningServer) -> Iterator[Page]:
    # Without a graphics card the picture is read back to be put on the page, as a driver notes.
    with fresh_page(driver, f"{server.http}/", "GPU stall due to ReadPixels") as page:
        yield page


def until(page: Page, script: str) -> None:
    """As ``page.until``, with the patience that the finder needs."""
    deadline = time.monotonic() + FOUND_S
    while not page.driver.execute_script(f"return {script}"):
        told = page.find("#status").text
        assert time.monotonic() < deadline, f"{script}; the page says: {told}"
        page.driver.execute_async_script("setTimeout(arguments[0], 100)")


def until_told(page: Page) -> str:
    """What the page says once it has looked at a photo that it cannot take."""
    until(page, "document.querySelector('#status').dataset.mood === 'bad'")
    return str(page.find("#status").text)


@pytest.fixture(scope="module")
def picture(driver: Any, server: RunningServer) -> Any:
    """The drawn face as a picture, 640 x 660."""
    page = Page(driver, f"{server.http}/")
    page.open()
    data = run(page, DRAWN + "return paint(marks.NEUTRAL).toDataURL('image/png');")
    return Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")


def take_photo(page: Page, picture: Any, path: Path) -> None:
    """Gives the page a photo and takes the points as they are found."""
    picture.save(path)
    page.find("#photo").send_keys(str(path))
    until(page, "document.querySelector('dialog.adjust[open]') !== null")
    page.find("dialog.adjust .use").click()
    until(page, "kfusion.look.name === 'photo'")


def rest_of(page: Page) -> NDArray[np.float64]:
    rest = page.driver.execute_script("return Array.from(kfusion.look.rest)")
    return np.array(rest).reshape(68, 2)


# ---- a photo that speaks


def test_a_photo_is_found_and_speaks(
    page: Page, picture: Any, finder: None, tmp_path: Path
) -> None:
    take_photo(page, picture, tmp_path / "face.png")
    rest = rest_of(page)
    size = float(inter_ocular(PLACED))
    assert np.linalg.norm(rest - PLACED, axis=1).mean() < 0.1 * size
    page.find("#microphone").click()
    page.until_state("live")
    page.until("return kfusion.frame.n > 5")
    sent = page.driver.execute_script("return kfusion.session.start.identity.points")
    np.testing.assert_allclose(sent, rest, atol=1e-3)
    seen = page.watch(3.0)
    assert np.ptp(seen.lip_gap()) > 0.03 * size
    assert np.linalg.norm(seen.points - rest, axis=2).max() < 0.35 * size
    page.find("#microphone").click()
    page.until_state("quiet")
    page.watch(1.5)
    assert abs(page.watch(0.2).lip_gap()[-1]) < 0.012 * size


def test_only_the_points_of_a_photo_are_sent(
    page: Page, picture: Any, finder: None, tmp_path: Path
) -> None:
    page.driver.get_log("performance")
    take_photo(page, picture, tmp_path / "face.png")
    page.find('[data-emotion="happy"]').click()
    page.until("return kfusion.frame.n > 5")
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
    page: Page, picture: Any, finder: None, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    picture.save(tmp_path / "face.png")
    page.find("#photo").send_keys(str(tmp_path / "face.png"))
    until(page, "document.querySelector('dialog.adjust[open]') !== null")
    assert page.driver.execute_script("return document.querySelectorAll('.point').length") == 68
    page.driver.execute_script("document.querySelectorAll('.adjust .views button')[1].click()")
    shown = "return [...document.querySelectorAll('.point:not([hidden])')].length"
    assert page.driver.execute_script(shown) == 20
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
    until(page, "document.querySelector('dialog.adjust') === null")
    assert page.driver.execute_script("return kfusion.look.name") == "drawn"


def test_the_newest_of_several_photos_is_told_of(page: Page, finder: None) -> None:
    told = run(
        page,
        DRAWN
        + """
        const { LookChoice } = await import(new URL("photo/look-choice.js", location.href));
        const section = document.createElement("section");
        const told = [];
        const choice = new LookChoice({
          section, drawn: {}, setLook: (look) => (choice.shown = look),
          tell: (word) => told.push(word),
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
    page: Page, picture: Any, finder: None, tmp_path: Path
) -> None:
    take_photo(page, picture, tmp_path / "face.png")
    page.find('[data-look="drawn"]').click()
    page.find("#microphone").click()
    page.until_state("live")
    page.until("return kfusion.frame.n > 15")
    seen = run(
        page,
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


# ---- photos that cannot be taken


def a_meadow(picture: Any) -> Any:
    return Image.new("RGB", picture.size, "#7a8f6a")


def two_faces(picture: Any) -> Any:
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture, (0, 0))
    both.paste(picture, (picture.width, 0))
    return both


def far_away(picture: Any) -> Any:
    wide = Image.new("RGB", (1000, 800), "#c9d4dc")
    wide.paste(picture.resize((120, 124)), (400, 300))
    return wide


def turned_round(picture: Any) -> Any:
    return picture.rotate(62, fillcolor="#c9d4dc")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (a_meadow, "No face was found"),
        (two_faces, "There are 2 faces"),
        (far_away, "too small|No face"),
        (turned_round, "turned|No face"),
    ],
    ids=["none", "two", "small", "turned"],
)
def test_a_photo_without_one_face_from_the_front_is_said_to_be_none(
    page: Page,
    picture: Any,
    finder: None,
    tmp_path: Path,
    change: Callable[[Any], Any],
    words: str,
) -> None:
    change(picture).save(tmp_path / "other.png")
    page.find("#photo").send_keys(str(tmp_path / "other.png"))
    told = until_told(page)
    assert any(w in told for w in words.split("|")), told
    still_alive(page)


def test_a_head_that_is_turned_tilted_or_small_is_told_from_its_points(page: Page) -> None:
    nose, jaw = list(range(27, 36)), list(range(17))
    turned = PLACED.copy()
    turned[nose, 0] += 40
    lopsided = PLACED.copy()
    lopsided[jaw[9:], 0] -= 110
    roll = np.array([[0.6, -0.8], [0.8, 0.6]])
    faces = [PLACED, PLACED * 3, turned, lopsided, PLACED @ roll.T + [600, 0], PLACED * 0.2]
    told = page.with_module(
        "photo/detector.js",
        """
        return a[0].map((points) => {
          try { m.checkPose(points.flat()); } catch (error) { return error.code; }
          return "good";
        });
        """,
        [face.tolist() for face in faces],
    )
    assert told == ["good", "good", *["photo-turned"] * 3, "photo-small-face"]


def test_one_face_found_twice_and_one_far_behind_are_one_face(page: Page) -> None:
    told = page.with_module(
        "photo/detector.js",
        """
        const box = (x, y, side) => ({ x, y, width: side, height: side });
        const only = (...boxes) => {
          try { return m.onlyFace(boxes).x; } catch (error) { return error.code; }
        };
        return [
          only(box(100, 100, 300)), only(box(120, 110, 290), box(100, 100, 300)),
          only(box(100, 100, 300), box(600, 50, 60)), only(box(100, 100, 300), box(500, 50, 200)),
          only(),
        ];
        """,
    )
    assert told == [100, 100, 100, "photo-many-faces", "photo-no-face"]


def still_alive(page: Page) -> None:
    assert page.driver.execute_script("return document.querySelector('dialog') === null")
    assert page.driver.execute_script("return kfusion.look.name") == "drawn"
    drawn = page.driver.execute_script("return kfusion.stats.drawn")
    page.driver.execute_script("document.querySelector('#dots').click()")
    page.until(f"return kfusion.stats.drawn > {drawn}")


def png_bomb(path: Path) -> None:
    """A few hundred kilobytes that would be 900 megapixels."""
    side = 30_000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    squeezed = zlib.compressobj(9)
    rows = bytes(1 + side // 8) * 100
    data = b"".join(squeezed.compress(rows) for _ in range(side // 100)) + squeezed.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def gif(path: Path) -> None:
    Image.new("P", (9, 9)).save(path)


def cut_off(path: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((300, 200), 60).save(whole, "JPEG")
    path.write_bytes(whole.getvalue()[:120])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        (
            "notes.jpg",
            functools.partial(Path.write_text, data="no picture\n" * 40),
            "not a picture",
        ),
        ("nothing.png", Path.touch, "is empty"),
        ("bomb.png", png_bomb, "900 megapixels"),
        ("cut.jpg", cut_off, "not a picture"),
        ("moving.gif", gif, "not a picture"),
    ],
    ids=["text", "empty", "bomb", "cut", "gif"],
)
def test_a_file_that_is_no_photo_is_said_to_be_none(
    page: Page, tmp_path: Path, name: str, write: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / name
    write(path)
    page.find("#photo").send_keys(str(path))
    told = until_told(page)
    assert words in told and name in told
    still_alive(page)


def test_without_the_finder_the_page_says_how_to_get_it(
    driver: Any, picture: Any, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(VIEWER, site, ignore=shutil.ignore_patterns("vendor"))

    with files_served(site) as address:
        page = Page(driver, f"{address}/")
        page.open()
        picture.save(tmp_path / "face.png")
        page.find("#photo").send_keys(str(tmp_path / "face.png"))
        assert "python -m client.parts" in until_told(page)
        driver.get("about:blank")
        page.complaints()  # of what is not there


# ---- reading


def sizes_of(page: Page, path: Path) -> Any:
    data = base64.b64encode(path.read_bytes()).decode()
    return run(
        page,
        """
        const { readPhoto } = await import(new URL("photo/photo.js", location.href));
        const bytes = Uint8Array.from(atob(a[0]), (c) => c.charCodeAt(0));
        const photo = await readPhoto(new File([bytes], "x"));
        const [r, , b] = photo.getContext("2d").getImageData(4, 4, 1, 1).data;
        return { width: photo.width, height: photo.height, reduced: photo.reduced, r, b };
        """,
        data,
    )


def test_twenty_megapixels_are_read_small(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (5472, 3648), "#335577").save(path)
    read = sizes_of(page, path)
    assert (read["width"], read["height"]) == (1024, 683)
    assert read["reduced"] == pytest.approx(5472 / 1024, rel=1e-3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_taken_sideways_is_set_upright(page: Page, tmp_path: Path, kind: str) -> None:
    # Red at the left as it is stored: turned by a quarter clockwise, that is the top.
    image = Image.new("RGB", (1600, 800), "blue")
    image.paste("red", (0, 0, 800, 800))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"sideways.{kind.lower()}"
    image.save(path, kind, exif=exif)
    read = sizes_of(page, path)
    assert (read["width"], read["height"]) == (512, 1024)
    assert read["r"] > 200 > 60 > read["b"]


# ---- the mesh

MESH: Final = (
    DRAWN
    + """
const { FaceMesh } = await import(new URL("photo/mesh.js", location.href));
const { twiceArea } = await import(new URL("photo/delaunay.js", location.href));
const areasOf = (mesh, p) => Array.from({ length: mesh.triangles.length / 3 }, (_, t) =>
  twiceArea(p, ...mesh.triangles.subarray(3 * t, 3 * t + 3)) / 2);
"""
)


@pytest.fixture(scope="module")
def spoken(model: Animator) -> NDArray[np.float32]:
    """Frames of the bundled model for a face in a photo, emotions among them: (T, 136)."""
    sound = voice(4.0, RATE, seed=3)
    felt = ({}, {"surprised": 1.0}, {"happy": 1.0}, {"angry": 1.0})
    frames = [model.animate(sound, RATE, identity=PLACED, emotion=e) for e in felt]
    return np.concatenate(frames).reshape(-1, 136)


def test_no_triangle_of_the_face_turns_over_as_it_speaks(
    page: Page, spoken: NDArray[np.float32]
) -> None:
    rng = np.random.default_rng(4)
    still = np.tile(PLACED.ravel(), (20, 1))
    wild = still + rng.normal(0, 12, still.shape)
    answer = run(
        page,
        MESH
        + """
        const mesh = new FaceMesh(placed(marks.NEUTRAL), 640, 660);
        const least = (frames) => Math.min(...frames.map((points) => {
          const areas = areasOf(mesh, mesh.deform(Float32Array.from(points)));
          return Math.min(...mesh.guarded.map((t) => areas[t]));
        }));
        return { spoken: least(a[0]), wild: least(a[1]), guarded: mesh.guarded.length,
          all: mesh.triangles.length / 3 };
        """,
        spoken[::3].tolist(),
        wild.tolist(),
    )
    assert answer["spoken"] > 0
    assert answer["wild"] > 0
    assert answer["guarded"] > 0.9 * answer["all"]


def test_the_mesh_covers_the_photo_but_for_the_mouth_and_the_eyes_and_its_edge_stands_still(
    page: Page,
) -> None:
    answer = run(
        page,
        MESH
        + """
        const mesh = new FaceMesh(placed(marks.NEUTRAL), 640, 660);
        const hole = (indices) => Math.abs(indices.reduce((sum, i, k) => {
          const j = indices[(k + 1) % indices.length];
          const p = mesh.base;
          return sum + p[2 * i] * p[2 * j + 1] - p[2 * j] * p[2 * i + 1];
        }, 0) / 2);
        const covered = areasOf(mesh, mesh.base).reduce((sum, v) => sum + v);
        const open = mesh.holes.map(hole).reduce((sum, v) => sum + v);
        const out = mesh.deform(marks.parted(placed(marks.NEUTRAL), 40));
        let moved = 0;
        for (let i = 0; i < mesh.count; i++) {
          const [x, y] = [mesh.place[2 * i], mesh.place[2 * i + 1]];
          if (x > 0 && x < 640 && y > 0 && y < 660) continue;
          moved = Math.max(moved, Math.hypot(out[2 * i] - x, out[2 * i + 1] - y));
        }
        const same = mesh.deform(placed(marks.NEUTRAL));
        const rest = Math.max(...mesh.place.map((v, i) => Math.abs(v - same[i])));
        return { covered, open, moved, rest };
        """,
    )
    assert answer["covered"] + answer["open"] == pytest.approx(640 * 660, rel=1e-6)
    assert answer["moved"] == 0
    assert answer["rest"] < 1e-3


@pytest.mark.parametrize("cut", [-0.05, 0.0, 0.05])
@pytest.mark.parametrize("pinned", [False, True], ids=["beyond", "on the edge"])
def test_a_face_that_reaches_the_edge_of_its_photo_speaks_as_it_sways(
    page: Page, cut: float, pinned: bool
) -> None:
    answer = run(
        page,
        MESH
        + """
        const { size } = marks.axesOf(placed(marks.NEUTRAL));
        const left = placed(marks.NEUTRAL)[0] + a[0] * size; // where the photo begins
        const seen = placed(marks.NEUTRAL).map((v, i) => (i % 2 ? v : v - left));
        if (a[1]) for (let i = 0; i < 136; i += 2) seen[i] = Math.max(0, seen[i]);
        const mesh = new FaceMesh(seen, Math.ceil(640 - left), 660);
        const [least, shares] = [[], []];
        for (let k = 0; k < 60; k++) {
          const points = marks.parted(seen, (0.11 + 0.08 * Math.sin(1.3 * k)) * size);
          const [x, y, roll] =
            [0.01 * Math.sin(k / 3), 0.007 * Math.cos(k / 5), 0.026 * Math.sin(k / 7)];
          for (let i = 0; i < 136; i += 2) {
            const [u, v] = [points[i] - mesh.axes.middle[0], points[i + 1] - mesh.axes.middle[1]];
            points[i] += x * size - roll * v;
            points[i + 1] += y * size + roll * u;
          }
          const areas = areasOf(mesh, mesh.deform(points));
          least.push(Math.min(...mesh.guarded.map((t) => areas[t])));
          shares.push((mesh.out[133] - mesh.place[133]) / (points[133] - seen[133]));
        }
        return { least: Math.min(...least), shares };
        """,
        cut,
        pinned,
    )
    assert answer["least"] > 0
    np.testing.assert_allclose(answer["shares"], 1, atol=0.05)


def test_a_triangle_that_is_hardly_more_than_a_line_does_not_hold_the_face(page: Page) -> None:
    shares = run(
        page,
        MESH
        + """
        return a[0].map((scale) => {
          const seen = marks.NEUTRAL.map((v, i) => scale * (v - 128) + (i % 2 ? 470 : 512));
          const mesh = new FaceMesh(seen, 1024, 800);
          const points = marks.parted(seen, 30);
          mesh.deform(points);
          return (mesh.out[133] - mesh.place[133]) / (points[133] - seen[133]);
        });
        """,
        np.linspace(3, 3.5, 21).tolist(),  # its flat chin, rounded in many ways
    )
    np.testing.assert_allclose(shares, 1, atol=0.05)


def test_a_frame_is_brought_to_another_face_as_the_server_brings_it(page: Page) -> None:
    rng = np.random.default_rng(8)
    turn = np.array([[0.9, -0.3], [0.3, 0.9]])
    here = (NEUTRAL + rng.normal(0, 2, NEUTRAL.shape)) * 3 + [40, 90]
    there = (NEUTRAL + rng.normal(0, 2, NEUTRAL.shape)) @ turn.T * 0.7 + [300, 20]
    displaced = rng.normal(0, 3, (5, 68, 2))
    displaced[:, 36:48] = 0  # lids are brought as far shut, not as far down
    frames = Identity.from_points(here).place(displaced)
    wanted = Identity.from_points(there).place(displaced)
    brought = page.with_module(
        "face/landmarks.js",
        """
        const bring = m.retargeting(Float32Array.from(a[0]), Float32Array.from(a[1]));
        return a[2].map((frame) => Array.from(bring(Float32Array.from(frame))));
        """,
        here.ravel().tolist(),
        there.ravel().tolist(),
        frames.reshape(5, -1).tolist(),
    )
    np.testing.assert_allclose(np.reshape(brought, (5, 68, 2)), wanted, atol=0.02)


def test_the_faces_that_the_page_tells_of_are_such_as_the_wire_takes(page: Page) -> None:
    told = page.with_module(
        "net/protocol.js",
        """
        const face = { points: a[0] };
        const options = { rate: 16000, mode: "live", hop: 3, lookahead: 3, emotion: {} };
        return [
          m.start({ ...options, identity: face }), m.start(options), m.identity(face),
          m.identity({ points: a[0].map(([x, y]) => [x + 1, y]) }), m.identity(null),
        ].map((message) => JSON.stringify(message));
        """,
        PLACED.tolist(),
    )
    start, plain, one, other, neutral = (parse_client(text) for text in told)
    assert isinstance(start, Start) and isinstance(plain, Start)
    assert isinstance(start.identity, IdentityPoints) and plain.identity == "neutral"
    np.testing.assert_array_equal(start.identity.points, PLACED)
    assert isinstance(one, SetIdentity) and isinstance(other, SetIdentity)
    assert isinstance(neutral, SetIdentity) and neutral.id == "neutral"
    assert len({one.id, other.id, neutral.id}) == 3


# ---- the picture

LOOK: Final = (
    DRAWN
    + """
const { portraitLook } = await import(new URL("photo/look-choice.js", location.href));
const shown = (photo, seen) => {
  const look = portraitLook("test", photo, seen);
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
    seen = run(
        page,
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
    seen = run(
        page,
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
    seen = run(
        page,
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


def test_drawing_a_portrait_takes_little_script(page: Page, spoken: NDArray[np.float32]) -> None:
    times = run(
        page,
        LOOK
        + """
        const { look } = shown(paint(marks.NEUTRAL), placed(marks.NEUTRAL));
        const frames = a[0].map((points) => Float32Array.from(points));
        const times = [];
        for (let k = 0; k < 120; k++) {
          await new Promise((go) => requestAnimationFrame(go));
          const began = performance.now();
          look.drawer.draw(frames[k % frames.length]);
          times.push(performance.now() - began);
        }
        look.drawer.close();
        return times;
        """,
        spoken[:120].tolist(),
    )
    assert np.quantile(times, 0.95) < 20


# ---- portraits that come with the page


def test_each_portrait_of_the_page_can_be_chosen_without_the_finder(page: Page) -> None:
    listed = json.loads((VIEWER / "portraits" / "portraits.json").read_text())
    for entry in listed:
        page.until(f"return document.querySelector('[data-look=\"{entry['name']}\"]') !== null")
        page.find(f'[data-look="{entry["name"]}"]').click()
        page.until(f"return kfusion.look.name === {json.dumps(entry['name'])}")
        np.testing.assert_allclose(rest_of(page), entry["points"], atol=1.0)
    assert not [url for url in page.requested() if "vendor" in url]


@pytest.mark.live
def test_a_portrait_that_speaks_is_drawn_often_and_takes_little_script(page: Page) -> None:
    page.driver.get(f"{page.url}?look=mira")
    page.until("return globalThis.kfusion?.look.name === 'mira'")
    page.find("#microphone").click()
    page.until("return kfusion.stats.received > 30")
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


def test_a_link_brings_a_portrait_back(page: Page) -> None:
    page.driver.execute_cdp_cmd("Browser.setPermission", {
        "permission": {"name": "clipboard-write"}, "setting": "denied", "origin": page.url[:-1],
    })  # fmt: skip
    page.until("return document.querySelector('[data-look=mira]') !== null")
    page.find("[data-look=mira]").click()
    page.until("return kfusion.look.name === 'mira'")
    page.find("#share").click()
    page.until("return !document.querySelector('#link-field').hidden")
    link = page.find("#link").get_property("value")
    assert link == f"{page.url}?look=mira"
    page.driver.get(link)
    page.until("return globalThis.kfusion?.look.name === 'mira'")


def test_the_points_are_saved_in_pixels_of_the_file(
    page: Page, picture: Any, finder: None, tmp_path: Path
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
