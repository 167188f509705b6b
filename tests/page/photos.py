"""A drawn face as a photo, and the page that is given it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.landmarks import NEUTRAL
from tests.page.page import Page

FOUND_S: Final = 90.0  # without a graphics card the finder takes seconds, on a busy machine many
PLACED: Final = 2 * (NEUTRAL + np.array([32, 58]))  # the points of the drawn face in its photo

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


def refusal(page: Page) -> str:
    """What the page says of a photo that it cannot take."""
    page.until("document.querySelector('#status').dataset.mood === 'bad'", FOUND_S)
    return str(page.find("#status").text)


def take_photo(page: Page, picture: Any, path: Path) -> None:
    """Gives the page a photo and takes the points as they are found."""
    picture.save(path)
    page.find("#photo").send_keys(str(path))
    page.until("document.querySelector('dialog.adjust[open]') !== null", FOUND_S)
    page.find("dialog.adjust .use").click()
    page.until("kfusion.look.name === 'photo'", FOUND_S)


def rest_of(page: Page) -> NDArray[np.float64]:
    rest = page.script("return Array.from(kfusion.look.rest)")
    return np.array(rest).reshape(68, 2)


def check_alive(page: Page) -> None:
    """The drawn face is drawn again, and no dialog is open."""
    assert page.script("return document.querySelector('dialog') === null")
    assert page.script("return kfusion.look.name") == "drawn"
    drawn = page.script("return kfusion.stats.drawn")
    page.script("document.querySelector('#dots').click()")
    page.until(f"kfusion.stats.drawn > {drawn}")
