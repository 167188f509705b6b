"""Files given to the page in headless Chromium: photos without a face, and what is no photo."""

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kfusion.bad_pictures import BAD, png
from tests.page.browser import files_served
from tests.page.page import ROOT, Page
from tests.page.photos import check_alive, refusal

Image: Any = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")

# ---- photos that cannot be taken


def a_meadow(picture: Any) -> Any:
    return Image.new("RGB", picture.size, "#7a8f6a")


def two_faces(picture: Any) -> Any:
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture, (0, 0))
    both.paste(picture, (picture.width, 0))
    return both


@pytest.mark.parametrize(
    ("change", "words"),
    [(a_meadow, "No face was found"), (two_faces, "There are 2 faces")],
    ids=["none", "two"],
)
def test_a_photo_without_one_face_is_said_to_be_none(
    page: Page,
    picture: Any,
    finder: None,
    tmp_path: Path,
    change: Callable[[Any], Any],
    words: str,
) -> None:
    change(picture).save(tmp_path / "other.png")
    page.find("#photo").send_keys(str(tmp_path / "other.png"))
    assert words in refusal(page)
    check_alive(page)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.jpg", b"no picture\n" * 40, "not a picture"),
        ("nothing.png", b"", "is empty"),
        ("bomb.png", png(30_000, 30_000), "900 megapixels"),
        ("cut.jpg", BAD["half a JPEG"][0][:120], "not a picture"),
        ("moving.gif", BAD["an animated GIF"][0], "not a picture"),
    ],
    ids=["text", "empty", "bomb", "cut", "gif"],
)
def test_a_file_that_is_no_photo_is_said_to_be_none(
    page: Page, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    page.find("#photo").send_keys(str(path))
    told = refusal(page)
    assert words in told and name in told
    check_alive(page)


def test_without_the_finder_the_page_says_how_to_get_it(
    driver: Any, picture: Any, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "client" / "viewer", site, ignore=shutil.ignore_patterns("vendor"))

    with files_served(site) as address:
        page = Page(driver, f"{address}/")
        page.open()
        picture.save(tmp_path / "face.png")
        page.find("#photo").send_keys(str(tmp_path / "face.png"))
        assert "python -m client.parts" in refusal(page)
        driver.get("about:blank")
        page.complaints()  # of what is not there


# ---- reading


def sizes_of(page: Page, path: Path) -> Any:
    data = base64.b64encode(path.read_bytes()).decode()
    return page.run(
        """
        const { readPhoto } = await import(new URL("photo/photo-file.js", location.href));
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
