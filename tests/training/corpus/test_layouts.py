from pathlib import Path

import pytest

from kfusion.errors import DataError
from training.corpus.layouts import find_clips


def tree(root: Path, *paths: str) -> Path:
    """Empty files: nothing is opened to find_clips them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


Row = tuple[str, str, str | None, int | None, str | None]
"""Name, speaker, emotion, level and sound file of a clip."""


@pytest.mark.parametrize(
    ("layout", "paths", "clips", "unused"),
    [
        (
            "mead",
            [
                "M003/video/front/happy/level_3/001.mp4",
                "M003/video/left_30/happy/level_3/001.mp4",  # a side view
                "M003/audio/happy/level_3/001.m4a",
                "W011/video/front/neutral/level_1/002.mp4",
                "part0/W009/video/front/sad/level_2/010.mp4",
                "part0/W009/audio/sad/level_2/010.m4a",
            ],
            [
                ("M003/front/happy/level_3/001", "M003", "happy", 3,
                 "M003/audio/happy/level_3/001.m4a"),
                ("W009/front/sad/level_2/010", "W009", "sad", 2,
                 "part0/W009/audio/sad/level_2/010.m4a"),
                ("W011/front/neutral/level_1/002", "W011", "neutral", 1, None),
            ],
            1,
        ),
        (
            "crema-d",
            [
                "VideoFlash/1001_DFA_ANG_XX.flv",
                "VideoFlash/1002_IEO_HAP_HI.flv",
                "VideoFlash/1040_ITH_SAD_X.flv",
                "AudioWAV/1002_IEO_HAP_HI.wav",
            ],
            [
                ("1001_DFA_ANG_XX", "1001", "angry", None, None),
                ("1002_IEO_HAP_HI", "1002", "happy", 3, "AudioWAV/1002_IEO_HAP_HI.wav"),
                ("1040_ITH_SAD_X", "1040", "sad", None, None),
            ],
            0,
        ),
        (
            "ravdess",
            [
                "Actor_01/01-01-03-02-01-01-01.mp4",
                "Actor_01/02-01-03-02-01-01-01.mp4",  # no sound
                "Actor_02/01-02-03-02-01-01-02.mp4",  # song
                "Actor_02/01-01-02-01-01-01-02.mp4",  # calm
            ],
            [
                ("Actor_01/01-01-03-02-01-01-01", "Actor_01", "happy", 2, None),
                ("Actor_02/01-01-02-01-01-01-02", "Actor_02", "neutral", 1, None),
            ],
            2,
        ),
        (
            "grid",
            ["s1/bbaf2n.mpg", "s1/align/bbaf2n.align", "s22/video/mpg_6000/pwij3p.mpg"],
            [("s1/bbaf2n", "s1", None, None, None), ("s22/pwij3p", "s22", None, None, None)],
            0,
        ),
        # One speaker, from inside their folder.
        ("grid", ["bbaf2n.mpg"], [("s7/bbaf2n", "s7", None, None, None)], 0),
        (
            "plain",
            ["ann/day1/a.mp4", "ann/day1/a.wav", "bob/b.MOV", "c.mkv", ".trash/x.mp4"],
            [
                ("ann/day1/a", "ann", None, None, "ann/day1/a.wav"),
                ("bob/b", "bob", None, None, None),
                ("c", "s7", None, None, None),
            ],
            0,
        ),
        (
            "tracks",
            ["bbaf2n.npz", "bbaf2n.flac", "brbk7n.npz"],
            [("bbaf2n", "s7", None, None, None), ("brbk7n", "s7", None, None, None)],
            0,
        ),
    ],
)  # fmt: skip
def test_a_layout_is_guessed_and_its_clips_are_found_with_their_labels(
    tmp_path: Path, layout: str, paths: list[str], clips: list[Row], unused: int
) -> None:
    source = tree(tmp_path / "s7", *paths)
    listing = find_clips(source)
    assert (listing.layout, listing.unused, listing.unmatched) == (layout, unused, [])
    assert [
        (c.name, c.speaker, c.emotion, c.level, c.audio and c.audio.relative_to(source).as_posix())
        for c in listing.clips
    ] == clips
    assert all(c.video.is_file() for c in listing.clips)


def test_a_pattern_reads_speaker_emotion_and_level_from_names(tmp_path: Path) -> None:
    source = tree(
        tmp_path, "M003_level_1_disgusted_015.npz", "W036_level_3_happy_007.npz", "odd.npz"
    )
    pattern = r"(?P<speaker>[MW]\d+)_level_(?P<level>\d)_(?P<emotion>[a-z]+)_.*"
    listing = find_clips(source, name=pattern)
    assert [(c.name, c.speaker, c.emotion, c.level) for c in listing.clips] == [
        ("M003_level_1_disgusted_015", "M003", "disgusted", 1),
        ("W036_level_3_happy_007", "W036", "happy", 3),
    ]
    assert listing.unmatched == [("odd.npz", f"its name does not match {pattern}")]
    (clip, *_) = find_clips(source, name=r"(?P<speaker>[MW]).*").clips
    assert (clip.speaker, clip.emotion, clip.level) == ("M", None, None)
    assert {c.speaker for c in find_clips(source, speaker="eve").clips} == {"eve"}


def test_a_tree_that_fits_several_layouts_wants_to_be_told(tmp_path: Path) -> None:
    source = tree(tmp_path, "s1/bbaf2n.mpg", "VideoFlash/1001_DFA_ANG_XX.flv")
    with pytest.raises(DataError, match="could be crema-d or grid; wanted --layout"):
        find_clips(source)
    assert [c.name for c in find_clips(source, "grid").clips] == ["s1/bbaf2n"]
    tracks = tree(tmp_path / "both", "a.mp4", "b.npz")
    with pytest.raises(DataError, match="could be plain or tracks"):
        find_clips(tracks)


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "has no clips; looked for videos .*mead, crema-d, ravdess, grid"),
        (["a.txt"], {"layout": "mead"}, "no clips in the layout mead .looked at 0 videos"),
        (["a.mp4"], {"layout": "grid"}, "in the layout grid .looked at 1 videos.* a.mp4: its path"),
        (["a.mp4", "a.avi"], {}, "a.avi and .*a.mp4 are both the clip a"),
        (["a.mp4"], {"name": "(?P<speaker>"}, "is no regular expression"),
        (["a.mp4"], {"name": "(?P<mood>.*)"}, "group 'mood' is unknown; wanted some of speaker"),
        (
            ["joy.mp4"],
            {"name": "(?P<emotion>.*)"},
            "emotion 'joy' by its name; wanted one of angry",
        ),
        (["x.mp4"], {"name": "(?P<level>.*)"}, "level 'x' by its name; wanted a number"),
        (
            ["a.mp4"],
            {"name": "b"},
            "no clips in the layout plain .*a.mp4: its name does not match b",
        ),
        (["s1/bbaf2n.mpg"], {"speaker": "ann"}, "layout grid says who speaks itself"),
    ],
)
def test_what_cannot_be_found_is_told(
    tmp_path: Path, paths: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_clips(tree(tmp_path, *paths), **options)
