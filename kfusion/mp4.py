"""The packages and the encoder for writing MP4 files."""

from importlib.util import find_spec

from kfusion.errors import MissingExtra


def require_packages() -> None:
    """Raises :class:`~kfusion.errors.MissingExtra` if a package for videos is missing."""
    for module, package in (("av", "av"), ("PIL", "pillow")):
        if find_spec(module) is None:
            raise MissingExtra(
                f"the {package} package is not installed; pip install 'kfusion[client]'"
            )


def video_codec() -> tuple[str, dict[str, str]]:
    """The available encoder and its options: H.264, else MPEG-4 part 2."""
    import av
    from av.codec.codec import UnknownCodecError

    try:
        av.Codec("libx264", "w")
    except UnknownCodecError:
        return "mpeg4", {"flags": "+qscale", "global_quality": str(3 * 118)}  # 118: FF_QP2LAMBDA
    return "libx264", {"crf": "20", "preset": "veryfast"}
