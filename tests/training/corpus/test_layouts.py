from __future__ import annotations

from pathlib import Path

import pytest

from kfusion.errors import DataError
from training.corpus.layouts import ClipSource, find_clips


def tree(root: Path, *paths: str) -> Path:
    """Empty files: nothing is opened to find_clips them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_mead_is_found_by_its_front_views_with_the_sound_apart(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        "M003/video/front/happy/level_3/001.mp4",
        "M003/video/left_30/happy/level_3/001.mp4",
        "M003/audio/happy/level_3/001.m4a",
        "W011/video/front/neutral/level_1/002.mp4",
    )
    found = find_clips(source)
    assert found.layout == "mead" and found.unused == 1 and not found.unmatched
    assert found.clips == [
        ClipSource(
            "M003/front/happy/level_3/001",
            source / "M003/video/front/happy/level_3/001.mp4",
            source / "M003/audio/happy/level_3/001.m4a",
            "M003",
            "happy",
            3,
        ),
        ClipSource(
            "W011/front/neutral/level_1/002",
            source / "W011/video/front/neutral/level_1/002.mp4",
            None,
            "W011",
            "neutral",
            1,
        ),
    ]


def test_mead_is_found_below_other_folders(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "part0/W009/video/front/sad/level_2/010.mp4",
        "part0/W009/audio/sad/level_2/010.m4a",
    )
    (clip,) = find_clips(tmp_path).clips
    assert (clip.name, clip.speaker) == ("W009/front/sad/level_2/010", "W009")
    assert clip.audio == tmp_path / "part0/W009/audio/sad/level_2/010.m4a"


def test_crema_d_is_found_with_its_sound_apart_and_strange_names_are_listed(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        "VideoFlash/1001_DFA_ANG_XX.flv",
        "VideoFlash/1002_IEO_HAP_HI.flv",
        "VideoFlash/1040_ITH_SAD_X.flv",
        "VideoFlash/intro.flv",
        "AudioWAV/1002_IEO_HAP_HI.wav",
    )
    found = find_clips(source)
    assert found.layout == "crema-d"
    labels = [(c.name, c.speaker, c.emotion, c.level) for c in found.clips]
    assert labels == [
        ("1001_DFA_ANG_XX", "1001", "angry", None),
        ("1002_IEO_HAP_HI", "1002", "happy", 3),
        ("1040_ITH_SAD_X", "1040", "sad", None),
    ]
    assert [c.audio for c in found.clips] == [None, source / "AudioWAV/1002_IEO_HAP_HI.wav", None]
    assert found.unmatched == [("VideoFlash/intro.flv", "its path is not named as in crema-d")]


def test_ravdess_is_found_by_speech_with_sound_alone(tmp_path: Path) -> None:
    found = find_clips(
        tree(
            tmp_path,
            "Actor_01/01-01-03-02-01-01-01.mp4",
            "Actor_01/02-01-03-02-01-01-01.mp4",  # no sound
            "Actor_02/01-02-03-02-01-01-02.mp4",  # song
            "Actor_02/01-01-02-01-01-01-02.mp4",  # calm
        )
    )
    assert found.layout == "ravdess" and found.unused == 2
    assert [(c.name, c.speaker, c.emotion, c.level) for c in found.clips] == [
        ("Actor_01/01-01-03-02-01-01-01", "Actor_01", "happy", 2),
        ("Actor_02/01-01-02-01-01-01-02", "Actor_02", "neutral", 1),
    ]


@pytest.mark.parametrize("path", ["s1/bbaf2n.mpg", "s1/video/mpg_6000/bbaf2n.mpg"])
def test_grid_is_found_flat_and_in_its_own_folders(tmp_path: Path, path: str) -> None:
    found = find_clips(tree(tmp_path, path, "s1/align/bbaf2n.align", "s22/pwij3p.mpg"))
    assert found.layout == "grid"
    assert [(c.name, c.speaker, c.emotion) for c in found.clips] == [
        ("s1/bbaf2n", "s1", None),
        ("s22/pwij3p", "s22", None),
    ]


def test_one_speaker_of_grid_is_found_from_inside_their_folder(tmp_path: Path) -> None:
    found = find_clips(tree(tmp_path / "s7", "bbaf2n.mpg"))
    assert found.layout == "grid" and found.clips[0].speaker == "s7"


def test_in_a_plain_folder_the_speaker_is_the_folder_under_the_source(tmp_path: Path) -> None:
    source = tree(
        tmp_path / "talks", "ann/day1/a.mp4", "ann/day1/a.wav", "bob/b.MOV", "c.mkv", ".trash/x.mp4"
    )
    found = find_clips(source)
    assert found.layout == "plain"
    assert [(c.name, c.speaker) for c in found.clips] == [
        ("ann/day1/a", "ann"),
        ("bob/b", "bob"),
        ("c", "talks"),
    ]
    assert found.clips[0].audio == source / "ann/day1/a.wav"
    assert {c.speaker for c in find_clips(source, speaker="eve").clips} == {"eve"}


def test_tracks_that_lie_flat_are_one_speaker_named_for_the_folder(tmp_path: Path) -> None:
    found = find_clips(tree(tmp_path / "grid_s1", "bbaf2n.npz", "bbaf2n.flac", "brbk7n.npz"))
    assert found.layout == "tracks"
    assert [(c.name, c.speaker) for c in found.clips] == [
        ("bbaf2n", "grid_s1"),
        ("brbk7n", "grid_s1"),
    ]


def test_a_pattern_reads_speaker_emotion_and_level_from_names(tmp_path: Path) -> None:
    source = tree(
        tmp_path, "M003_level_1_disgusted_015.npz", "W036_level_3_happy_007.npz", "odd.npz"
    )
    pattern = r"(?P<speaker>[MW]\d+)_level_(?P<level>\d)_(?P<emotion>[a-z]+)_.*"
    found = find_clips(source, name=pattern)
    assert [(c.name, c.speaker, c.emotion, c.level) for c in found.clips] == [
        ("M003_level_1_disgusted_015", "M003", "disgusted", 1),
        ("W036_level_3_happy_007", "W036", "happy", 3),
    ]
    assert found.unmatched == [("odd", f"its name does not match {pattern}")]
    (clip, *_) = find_clips(source, name=r"(?P<speaker>[MW]).*").clips
    assert (clip.speaker, clip.emotion, clip.level) == ("M", None, None)


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
        (["a.mp4"], {"name": "b"}, "no clips in the layout plain .*a: its name does not match b"),
        (["s1/bbaf2n.mpg"], {"speaker": "ann"}, "layout grid says who speaks itself"),
    ],
)
def test_what_cannot_be_found_is_told(
    tmp_path: Path, paths: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_clips(tree(tmp_path, *paths), **options)


def test_a_source_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder; wanted one with videos"):
        find_clips(tmp_path / "nowhere")
