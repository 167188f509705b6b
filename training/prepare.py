"""Makes a corpus from video, or from ready-made tracks::

    python -m training.prepare --source MEAD --out corpora/mead --held-out M003 M030

It finds the clips, splits them by speaker, tracks each face and writes one corpus. Stopped or
killed, the same command goes on and ends with the same files. Clips that cannot be used are in
skipped.jsonl, each with the reason. Clips whose sound and lips are apart are in offsets.csv, as
they were found: nothing is shifted.
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from tqdm import tqdm

from kfusion import __version__
from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError, run_command
from kfusion.system import file_sha256, write_whole
from training.corpus.files import printable
from training.corpus.format import Corpus, CorpusHeader, CorpusWriter, Entry
from training.corpus.layouts import LAYOUTS, Listing, find_clips, named
from training.corpus.lines import counted_reasons
from training.corpus.offset import LARGE_MS
from training.corpus.splits import LeakError, Split, split_of_clips, split_of_speakers
from training.corpus.track import FaceAlignmentTracker
from training.corpus.workers import MakeTracker, prepared_clips
from training.phones import PhoneTrack, read_phones

OFFSETS: Final = "offsets.csv"


@dataclass(frozen=True)
class Plan:
    """What will be written, known before any clip is read. ``splits`` is by a clip's name."""

    found: Listing
    header: CorpusHeader
    splits: dict[str, Split]

    def describe(self) -> str:
        """Lines for the user: which layout, and which split."""
        clips, header = self.found.clips, self.header
        speakers = sorted({c.speaker for c in clips})
        held_out = [c for c in clips if self.splits[c.name] == "validation"]
        lines = [f"layout {self.found.layout}: {len(clips)} clips, speakers: {len(speakers)}"]
        if self.found.unused:
            lines.append(f"not used (side views, songs, no sound): {self.found.unused} files")
        if header.split_by == "clip":
            lines.append(
                f"split by clip, seed {header.seed}: there is one speaker, {speakers[0]}, who is "
                f"both trained on and held out; held out {len(held_out)} of {len(clips)} clips"
            )
        else:
            who = ", ".join(sorted({c.speaker for c in held_out}))
            lines.append(
                f"split by speaker, seed {header.seed}: held out {who} "
                f"({len(held_out)} of {len(clips)} clips)"
            )
        return "\n".join(lines)


def plan(
    source: Path,
    *,
    layout: str = "auto",
    name: str | None = None,
    speaker: str | None = None,
    held_out: Sequence[str] = (),
    seed: int = 0,
    share: float = 0.1,
) -> Plan:
    """Finds and splits the clips; see :func:`training.corpus.layouts.find_clips` for the arguments.

    Raises :class:`~kfusion.errors.DataError`.
    """
    if not 0 < share < 1:
        raise DataError(f"--share is {share}; wanted more than 0 and less than 1")
    listing = find_clips(source, layout, name, speaker and printable(speaker))
    speakers = {c.speaker for c in listing.clips}
    if len(speakers) == 1:
        if held_out:
            raise DataError(
                f"--held-out {' '.join(held_out)}: {source} has one speaker, "
                f"{min(speakers)}, and is split by clip; wanted no --held-out"
            )
        splits: dict[str, Split] = split_of_clips((c.name for c in listing.clips), seed, share)
    else:
        sides = split_of_speakers(speakers, seed, share, held_out)
        splits = {c.name: sides[c.speaker] for c in listing.clips}
    header = CorpusHeader(
        source=named(source).name,
        layout=listing.layout,
        split_by="clip" if len(speakers) == 1 else "speaker",
        seed=seed,
        share=share,
        held_out=sorted(held_out),
    )
    return Plan(listing, header, splits)


def prepare(
    planned: Plan,
    out: Path,
    make_tracker: MakeTracker | None,
    *,
    processes: int = 1,
    progress: bool = False,
    phones: Mapping[str, PhoneTrack] | None = None,
) -> Corpus:
    """Writes what is planned, going on from what is written, and gives the corpus.

    ``make_tracker`` is None for ready-made tracks; ``phones`` are written with the clips of these
    names. Raises :class:`~kfusion.errors.DataError`
    for a full disk, a folder begun otherwise and a corpus without a usable clip.
    """
    with CorpusWriter(out, planned.header) as corpus:
        _check_same(corpus, planned)
        done = corpus.done
        for name, reason in planned.found.unmatched:
            if name not in done:
                corpus.skip(name, reason)
                done.add(name)
        todo = [s for s in planned.found.clips if s.name not in done]
        total = len(planned.found.clips)
        bar = tqdm(total=total, initial=total - len(todo), unit="clip", disable=not progress)
        prepared = prepared_clips(todo, make_tracker, max(1, min(processes, len(todo))))
        try:
            for source, result in zip(todo, prepared, strict=True):
                if isinstance(result, str):
                    corpus.skip(source.name, result)
                else:
                    clip = replace(result.clip, phones=(phones or {}).get(source.name))
                    split = planned.splits[source.name]
                    try:
                        corpus.add(
                            clip,
                            split,
                            fps=result.fps,
                            tracked=result.tracked,
                            offset=result.offset,
                        )
                    except LeakError as error:
                        corpus.skip(source.name, str(error))
                bar.update()
        finally:
            prepared.close()
            bar.close()
        _write_offsets(out / OFFSETS, corpus.entries)
        corpus.finish()
    return Corpus(out)


def _write_offsets(path: Path, entries: Sequence[Entry]) -> None:
    """The clips whose sound and lips are far apart; no file where there are none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("clip", "sound_late_ms", "correlation"))
    large = [(e.name, o.ms, o.correlation) for e in entries if (o := e.offset) and o.large]
    table.writerows(large)
    try:
        if large:
            write_whole(path, text.getvalue().encode())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from None


def _check_same(corpus: CorpusWriter, planned: Plan) -> None:
    """DataError where what was written is not what would be written now."""
    sources = {s.name: s for s in planned.found.clips}
    for entry in corpus.entries:
        source = sources.get(entry.name)
        now = source and (
            source.speaker, source.emotion, source.level, planned.splits[source.name]
        )  # fmt: skip
        if now != (entry.speaker, entry.emotion, entry.level, entry.split):
            raise DataError(
                f"{corpus.folder}: clip {entry.name} was written with another speaker, label or "
                "split than the source gives now; wanted a new --out"
            )


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog="kfusion-prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    p.add_argument("--source", type=Path, required=True, help="folder of video or tracks")
    p.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    p.add_argument("--layout", choices=["auto", *LAYOUTS], default="auto")
    p.add_argument(
        "--name",
        help="for plain folders and tracks: a regular expression with groups speaker, emotion, "
        "level for a clip's relative path without suffix",
    )
    p.add_argument("--speaker", help="for plain folders and tracks: who speaks in all of them")
    p.add_argument(
        "--phones", type=Path, help="table of the clips' phones: clip, start_s, end_s, phone"
    )
    p.add_argument("--held-out", nargs="+", default=[], metavar="SPEAKER", help="by name")
    p.add_argument("--seed", type=int, default=0, help="of the split")
    p.add_argument("--share", type=float, default=0.1, help="of the speakers that is held out")
    p.add_argument("--processes", type=int, help="the cores here, at most 4 on a GPU")
    p.add_argument("--device", help="cuda or cpu; what there is")
    p.add_argument("--batch", type=int, help="crops at once: 32 on a GPU, 8 otherwise")
    return p.parse_args(argv)


def tracker_factory(
    device: str | None, batch: int | None, processes: int | None
) -> tuple[MakeTracker, int]:
    """The tracker of the arguments, and for how many processes."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    cores = os.cpu_count() or 1
    processes = processes or (min(4, cores) if on_gpu else cores)
    threads = max(1, cores // processes)
    make_tracker = partial(FaceAlignmentTracker, device, batch or (32 if on_gpu else 8), threads)
    return make_tracker, processes


def summary(corpus: Corpus) -> str:
    """What was written, how late its sound is, and the commonest reasons for what was not."""
    hours = sum(e.audio[1] for e in corpus.entries) / SAMPLE_RATE / 3600
    folder = printable(corpus.folder)
    lines = [f"{folder}: {len(corpus.entries)} clips, {hours:.2f} h"]
    trusted = [e.offset for e in corpus.entries if e.offset and e.offset.trusted]
    if trusted:
        low, middle, high = np.percentile([o.ms for o in trusted], (5, 50, 95))
        lines.append(
            f"the sound is later than the lips by {middle:.0f} ms (median; 5-95 %: {low:.0f} to "
            f"{high:.0f} ms), by the {len(trusted)} clips of which that can be told"
        )
    if large := sum(o.large for o in trusted):
        lines.append(
            f"warning: in {large} clips sound and lips seem more than {LARGE_MS:.0f} ms apart, see "
            f"{folder}/{OFFSETS}; nothing was shifted"
        )
    if corpus.skipped:
        lines.append(f"skipped {len(corpus.skipped)}, see {folder}/skipped.jsonl:")
        lines += [f"  {reason}" for reason in counted_reasons(corpus.skipped)]
    return "\n".join(lines)


def run(
    options: argparse.Namespace,
    tracker: Callable[
        [str | None, int | None, int | None], tuple[MakeTracker, int]
    ] = tracker_factory,
) -> int:
    """The command; ``tracker`` gives, for --device, --batch and --processes, what finds points in
    video and in how many processes."""
    for name, value in (("--processes", options.processes), ("--batch", options.batch)):
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}; wanted 1 or more")
    planned = plan(
        options.source,
        layout=options.layout,
        name=options.name,
        speaker=options.speaker,
        held_out=options.held_out,
        seed=options.seed,
        share=options.share,
    )
    print(planned.describe(), flush=True)
    phones = read_phones(options.phones) if options.phones else {}
    if options.phones:
        if not phones.keys() & planned.splits.keys():
            raise DataError(
                f"{options.phones}: names no clip of {options.source}; wanted some of theirs"
            )
        files = {"phones": file_sha256(options.phones)}
        planned = replace(planned, header=msgspec.structs.replace(planned.header, files=files))
    make_tracker, processes = None, options.processes or os.cpu_count() or 1
    if planned.found.layout != "tracks":
        make_tracker, processes = tracker(options.device, options.batch, options.processes)
    try:
        corpus = prepare(
            planned, options.out, make_tracker, processes=processes, progress=True, phones=phones
        )
    except KeyboardInterrupt:
        print("kfusion-prepare: stopped; the same command goes on", file=sys.stderr)
        return 130
    print(summary(corpus))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    return run_command("kfusion-prepare", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
