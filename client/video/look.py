"""Whose face a video shows: the drawn one, that of a photo, or of a portrait of the page."""

from __future__ import annotations

import argparse

from client.face_files import points_in
from client.video.photo_face import PhotoFace
from client.video.pictures import open_picture, portrait
from client.video.studio import Drawer, DrawnFace


def drawer_of(a: argparse.Namespace) -> Drawer:
    """What draws the video that ``a`` asks for; ``a.face`` becomes what is to be animated for it.

    Raises :class:`~client.errors.PictureError` and :class:`~kfusion.errors.BadIdentity`.
    """
    if a.portrait is not None:
        photo = PhotoFace(*portrait(a.portrait))
    elif a.photo is not None:
        pixels = open_picture(a.photo)
        photo = PhotoFace(pixels, points_in(a.photo, pixels, a.identity))
    else:
        return DrawnFace(a.face)
    a.face = photo.identity
    return photo
