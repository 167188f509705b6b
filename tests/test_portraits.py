"""The viewer's painted portraits: the committed files against themselves and their painter."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from client.portraits.__main__ import FOLDER, LIST, entry, main, packed
from client.portraits.canvas import HEIGHT, WIDTH
from client.portraits.looks import LOOKS, Look
from client.portraits.paint import portrait
from kfusion.landmarks import (
    INNER_LOWER,
    INNER_UPPER,
    OUTER_LIPS,
    Identity,
    inter_ocular,
)

EYES = (slice(36, 42), slice(42, 48))
SMALL = 0.15

each_look = pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)


def listed(look: Look) -> dict[str, Any]:
    entries = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
    (found,) = (e for e in entries if e["name"] == look.name)
    return found


def points_of(look: Look) -> NDArray[np.float64]:
    return np.array(listed(look)["points"], np.float64)


@cache
def picture_of(look: Look) -> NDArray[np.float64]:
    with Image.open(FOLDER / listed(look)["image"]) as file:
        return np.asarray(file.convert("RGB"), np.float64)


def inside(corners: NDArray[np.float64], grown: float = 0.0) -> NDArray[np.bool_]:
    """Pixels inside a polygon, which is ``grown`` by pixels about its middle."""
    middle = corners.mean(axis=0)
    away = corners - middle
    away *= 1.0 + grown / np.linalg.norm(away, axis=1, keepdims=True)
    mask = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(mask).polygon([tuple(p) for p in middle + away], fill=1)
    return np.asarray(mask, bool)


@cache
def painted_again(look: Look) -> Any:
    return portrait(look, SMALL)


def test_the_list_names_each_portrait_once_and_nothing_else_lies_there() -> None:
    entries = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
    assert [e["name"] for e in entries] == [look.name for look in LOOKS]
    assert all(set(e) == {"name", "label", "image", "points"} and e["label"] for e in entries)
    assert {p.name for p in FOLDER.iterdir()} == {LIST, *(e["image"] for e in entries)}


@each_look
def test_the_picture_has_its_size_and_is_light_to_load(look: Look) -> None:
    assert picture_of(look).shape == (HEIGHT, WIDTH, 3)
    assert (FOLDER / listed(look)["image"]).stat().st_size < 70_000


@each_look
def test_the_points_are_a_face_inside_the_picture(look: Look) -> None:
    points = points_of(look)
    Identity.from_points(points)
    assert (points > 0).all() and (points < (WIDTH, HEIGHT)).all()
    assert inter_ocular(points) > WIDTH / 5


@each_look
def test_the_lips_are_closed(look: Look) -> None:
    points = points_of(look)
    gap = points[list(INNER_LOWER)] - points[list(INNER_UPPER)]
    assert np.abs(gap).max() <= 0.5


@each_look
def test_the_eyes_lie_where_the_points_say(look: Look) -> None:
    points, bright = points_of(look), picture_of(look).mean(axis=-1)
    for eye in EYES:
        corners = points[eye]
        lids = inside(corners)
        around = inside(corners, 14.0) & ~inside(corners, 7.0)
        assert np.percentile(bright[lids], 10) < 0.6 * np.median(bright[around])
        # white on both sides of an iris that is darker than either
        middle, half = corners.mean(axis=0), np.ptp(corners[:, 0]) / 2
        columns = np.arange(WIDTH) + 0.5 - middle[0]
        iris = bright[lids & (np.abs(columns) < 0.25 * half)].mean()
        for side in (-1, 1):
            white = lids & (np.abs(side * columns - 0.62 * half) < 0.14 * half)
            assert bright[white].mean() > 1.15 * iris


@each_look
def test_the_lips_are_redder_than_the_skin_around_them(look: Look) -> None:
    corners, picture = points_of(look)[OUTER_LIPS], picture_of(look)
    redness = picture[..., 0] / picture.sum(axis=-1)
    lips, around = inside(corners), inside(corners, 16.0) & ~inside(corners, 6.0)
    assert redness[lips].mean() > redness[around].mean() + 0.01


@each_look
def test_the_listed_points_are_those_of_the_painter(look: Look) -> None:
    made, kept = entry(look), listed(look)
    assert np.abs(np.array(made.pop("points")) - np.array(kept.pop("points"))).max() <= 0.02
    assert made == kept


@each_look
def test_painted_again_small_it_is_the_same_portrait(look: Look) -> None:
    again = painted_again(look)
    kept = Image.fromarray(picture_of(look).astype(np.uint8)).resize(
        again.size, Image.Resampling.BOX
    )
    a, b = (np.asarray(p, np.float64) for p in (again, kept))
    assert np.abs(a - b).mean() < 9.0
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.96


def test_painting_is_deterministic() -> None:
    look = LOOKS[0]
    assert portrait(look, SMALL).tobytes() == painted_again(look).tobytes()


def test_a_picture_is_packed_into_the_bytes_it_may_take() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    picture = Image.fromarray(noise)
    roomy, tight = packed(picture, 18_000), packed(picture, 6_000)
    assert len(tight) <= 6_000 < len(roomy) <= 18_000
    with pytest.raises(ValueError, match="does not fit into 500 bytes"):
        packed(picture, 500)


def test_an_unknown_name_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["nobody", "--out", str(tmp_path)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "'nobody'" in said and all(look.name in said for look in LOOKS)
    assert not any(tmp_path.iterdir())
