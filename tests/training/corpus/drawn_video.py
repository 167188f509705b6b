"""Video of a drawn face whose mouth opens while a click sounds, and a tracker that finds it.

The face is a yellow disc with a red mark on the upper lip and a blue one on the lower. Its mouth
opens and closes again smoothly, widest at the click.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from kfusion.faces import Boxes
from kfusion.landmarks import NEUTRAL, lip_gap
from training.corpus.clips import Clip

WIDTH, HEIGHT = 160, 120
FACE = (88.0, 62.0, 40.0)  # middle and radius in pixels
PULSE_S = 0.35  # from closed to closed
MILLI = Fraction(1, 1000)


def gap_at(time: float, click: float) -> float:
    """How far the lips are apart, in pixels of the picture."""
    phase = np.clip((time - click) / PULSE_S, -0.5, 0.5)
    return 14 * float(np.cos(np.pi * phase) ** 2)


def draw(gap: float, face: bool = True) -> NDArray[np.uint8]:
    """(120, 160, 3), marks placed between pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    picture = np.full((HEIGHT, WIDTH, 3), 60.0)
    middle_x, middle_y, radius = FACE

    def disc(cx: float, cy: float, r: float, colour: tuple[int, int, int]) -> None:
        inside = np.clip(r + 0.5 - np.hypot(x - cx, y - cy), 0, 1)[..., None]
        picture[:] = picture * (1 - inside) + inside * np.array(colour)

    if face:
        disc(middle_x, middle_y, radius, (220, 200, 30))
        disc(middle_x, middle_y + 4 - gap / 2, 6, (230, 20, 20))
        disc(middle_x, middle_y + 20 + gap / 2, 6, (20, 20, 230))
    return np.round(picture).astype(np.uint8)


def click_sound(seconds: float, click: float, rate: int) -> NDArray[np.float32]:
    """(N,) silence with a click of some 10 ms at ``click`` seconds."""
    t = np.arange(round(seconds * rate)) / rate - click
    return (0.8 * np.exp(-((t / 0.004) ** 2)) * np.cos(2 * np.pi * 1000 * t)).astype(np.float32)


def click_time(audio: NDArray[Any], rate: int = 16_000) -> float:
    """When the click sounds: the middle of its energy."""
    energy = audio.astype(np.float64) ** 2
    return float((energy * np.arange(len(audio))).sum() / energy.sum() / rate)


def opening_time(clip: Clip) -> float:
    """When the mouth of a clip is widest: the middle of its opening."""
    gap = lip_gap(clip.points)
    gap = np.clip(gap - gap.min() - 0.1 * np.ptp(gap), 0, None)
    return float((gap * np.arange(len(gap))).sum() / gap.sum() / 30)


def _codec(kind: str, suffix: str) -> str:
    known = {".mpg": ("mpeg1video", "mp2"), ".flv": ("flv", "libmp3lame")}
    return known.get(suffix, ("libx264", "aac"))[kind == "audio"]


def write_clip(
    path: Path,
    *,
    fps: Fraction = Fraction(25),
    seconds: float = 2.0,
    click: float = 0.9,
    audio_from: float | None = 0.0,
    video_from: float = 0.0,
    times: Sequence[float] | None = None,
    hidden: Sequence[int] = (),
    rate: int = 44_100,
    codec: str | None = None,
    options: dict[str, str] | None = None,
    aspect: Fraction = Fraction(1),
) -> None:
    """A clip whose pictures start at ``video_from`` and sound at ``audio_from`` (None: no sound)
    on the file's clock; the click is ``click`` seconds after the first picture. ``times`` of the
    pictures after the first, for a varying rate; in ``hidden`` ones there is no face. ``aspect``:
    how many times as wide as high its pixels are shown.
    """
    shown = np.arange(round(seconds * fps)) / float(fps) if times is None else np.array(times)
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream(codec or _codec("video", path.suffix), rate=fps)
        assert isinstance(video, av.VideoStream)
        width, height = (round(n / max(1, k)) for n, k in ((WIDTH, aspect), (HEIGHT, 1 / aspect)))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.sample_aspect_ratio = aspect
        video.bit_rate = 4_000_000
        base = 1 / fps if times is None and path.suffix != ".flv" else MILLI
        video.codec_context.time_base = base
        sound = None
        if audio_from is not None:
            sound = out.add_stream(_codec("audio", path.suffix), rate=rate, layout="mono")
        for n, time in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(draw(gap_at(time, click), n not in hidden))
            if (width, height) != (WIDTH, HEIGHT):
                frame = frame.reformat(width, height, interpolation="AREA")
            frame.pts, frame.time_base = round((time + video_from) / base), base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if isinstance(sound, av.AudioStream) and audio_from is not None:
            begin = round((video_from - audio_from) * rate)
            samples = click_sound(seconds + video_from - audio_from, click + begin / rate, rate)
            _encode(out, sound, samples, round(audio_from * rate), rate)


def write_sound(path: Path, seconds: float, click: float, rate: int = 44_100) -> None:
    """A sound file alone."""
    with av.open(str(path), "w") as out:
        codec = "pcm_s16le" if path.suffix == ".wav" else "aac"
        stream = out.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        _encode(out, stream, click_sound(seconds, click, rate), 0, rate)


def _encode(
    out: Any, stream: av.AudioStream, samples: NDArray[np.float32], begin: int, rate: int
) -> None:
    to_codec = av.AudioResampler(
        format=stream.codec_context.format,
        layout="mono",
        rate=rate,
        frame_size=stream.codec_context.frame_size or 1024,
    )
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
    for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
        out.mux(stream.encode(part))
    out.mux(stream.encode(None))


class MarkTracker:
    """A :class:`training.corpus.track.Tracker` of the drawn face, by its colours."""

    batch = 16

    def faces(self, picture: NDArray[np.uint8]) -> Boxes:
        red, green, blue = picture.astype(int).transpose(2, 0, 1)
        y, x = np.nonzero((red > 150) & (green > 130) & (blue < 110))
        if len(x) < 50:
            return np.zeros((0, 4))
        return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float64)

    def track(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        points = np.repeat(NEUTRAL[None], len(frames), axis=0)
        found = np.zeros(len(frames), np.bool_)
        for n, frame in enumerate(frames.astype(np.float64)):
            red, green, blue = frame.transpose(2, 0, 1)
            upper = np.clip(red - np.maximum(green, blue) - 60, 0, None)
            lower = np.clip(blue - np.maximum(red, green) - 60, 0, None)
            found[n] = upper.sum() > 1000 and lower.sum() > 1000
            if found[n]:
                points[n, 61:64] = _middle(upper)
                points[n, 65:68] = _middle(lower)
        return points, found


def mark_tracker(*_: object) -> tuple[type[MarkTracker], int]:
    """For :func:`training.prepare.run`: the tracker of the drawn face, in this process."""
    return MarkTracker, 1


def _middle(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
