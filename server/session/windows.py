"""Which windows of an open stream are computed when, and what becomes of their results."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from kfusion import wire
from kfusion.audio import Samples
from kfusion.config import FPS
from kfusion.emotion import EmotionCurve, Vector
from kfusion.errors import BadMessage, TooFast
from kfusion.life import LoudnessHistory
from kfusion.stream import Slider, Stitcher, Window, sample_of
from server.session.history import HISTORY
from server.session.outbox import Outbox
from server.session.playout_clock import PlayoutClock
from server.session.rendering import FrameChunk, Rendering

AHEAD_S: Final = 2.0  # live frames are computed at most so long before they are due
LIVE_BACKLOG: Final = 120  # unsent frames of a live reader; older ones are dropped
FILE_BACKLOG: Final = 300  # unsent frames at which a file's audio is no longer read
FILE_AHEAD_S: Final = 10.0  # audio awaiting inference at which no more is read
SLACK_S: Final = 5.0  # by which the engine may be late before live audio is refused
MAX_IN_FLIGHT: Final = 8  # windows of one session at the engine
MAX_MARKS: Final = 1000


@dataclass(frozen=True)
class Job:
    """A window for the engine. ``deadline`` orders jobs: when its sound was complete, or inf for a
    file's. ``levels`` is the loudness for life.
    """

    window: Window
    rendering: Rendering
    levels: NDArray[Any] | None
    emotion: Vector
    deadline: float
    generation: int


class WindowScheduler:
    """Sound in, jobs out; results in, frames and marks into the outbox.

    A live stream refuses sound of which more than ``held_s`` would have to be kept for later.
    ``publish`` is given all frames once they are known, in order, each once, and the time in
    microseconds as it is in a binary message; whether and when they are sent does not matter.
    """

    def __init__(
        self,
        start: wire.Start,
        held_s: float,
        outbox: Outbox,
        publish: Callable[[FrameChunk, int], None] | None = None,
    ) -> None:
        self.live, self.held_s = start.mode == "live", held_s
        self.outbox, self.publish = outbox, publish
        self.slider = Slider(start.audio.rate, start.hop, start.lookahead)
        self.stitcher = Stitcher(start.hop, start.lookahead)
        self.clock = PlayoutClock(start.audio.rate)
        self.loudness = LoudnessHistory()
        self.generation = 0  # of jobs; a reset begins the next one
        self.at_engine = 0  # jobs, those of earlier generations too
        self.in_flight: deque[Job] = deque()  # those of this generation, in order
        self.early: dict[int, NDArray[Any] | None] = {}  # results, by window end, out of order
        self.next_frame = 0  # the next to be put into the outbox
        self.marks: deque[tuple[int, str]] = deque()  # with the frame before which they come

    # Sound in

    def add_audio(self, samples: Samples, now: float) -> None:
        """Raises :class:`~kfusion.errors.TooFast`, and changes nothing."""
        self._count(len(samples), now, silent=False)
        self.slider.push(samples)

    def add_silence(self, count: int, now: float) -> None:
        """Raises :class:`~kfusion.errors.TooFast`, and changes nothing."""
        self._count(count, now, silent=True)
        self.slider.push_silence(count)

    def _count(self, samples: int, now: float, *, silent: bool) -> None:
        """Counts a message's samples, or refuses it whole."""
        if not samples:
            return
        if self.live:
            rate = self.slider.rate
            ahead = self.clock.end_with(samples, now, silent=silent) - now - AHEAD_S
            # Late silence is never ahead of its time; what waits for the engine is bounded too.
            behind = (self.slider.waiting + samples) / rate - AHEAD_S - SLACK_S
            held = max(ahead, behind)
            if held > self.held_s + 1e-6:
                raise TooFast(
                    f"{samples} samples more would make {held:.2f} s of audio held for later; "
                    f"wanted at most {self.held_s:g} s"
                )
        self.clock.add(samples, now, silent=silent)

    def add_mark(self, name: str) -> None:
        """A mark before the frame at the present audio position."""
        if len(self.marks) >= MAX_MARKS:
            raise BadMessage(f"{MAX_MARKS} marks are waiting; wanted audio or silence before more")
        self.marks.append((self.slider.total, name))
        self.put_reached_marks()

    def reset(self, now: float) -> None:
        """Withdraws all sound that no frame was sent of."""
        position = self.slider.received
        n = self.slider.reset()
        self.outbox.drop_all(self.next_frame, n, "reset")
        self.cancel_jobs()
        self.stitcher.reset(n, self.outbox.last_sent)
        self.loudness.reset()
        self.clock.interrupt(now)
        self.next_frame = n
        self.put_reached_marks()
        self.outbox.put(wire.ResetDone(n, position))

    @property
    def wants_audio(self) -> bool:
        """Whether more should be read: always when live, within bounds for a file."""
        if self.live:
            return True
        waiting = self.slider.waiting / self.slider.rate
        return waiting < FILE_AHEAD_S and self.outbox.waiting < FILE_BACKLOG

    # Jobs out

    @property
    def has_work(self) -> bool:
        """Whether a window's sound is in and there is room for its frames."""
        if not self.slider.ready or self.at_engine >= MAX_IN_FLIGHT:
            return False
        return self.live or (
            self.outbox.waiting + len(self.in_flight) * self.slider.hop < FILE_BACKLOG
        )

    def take(
        self, now: float, rendering: Rendering, emotion: EmotionCurve, *, paced: bool
    ) -> Job | None:
        """The next job, if its sound is in and, where it is paced, its time has come."""
        if not self.has_work:
            return None
        deadline = float("inf")
        if self.live:
            due = self._due()
            if paced and now < due - AHEAD_S:
                return None
            deadline = self._complete_at(due)
        window = self.slider.take()
        if window is None:
            return None
        vector = emotion.at(window.last - 1)
        emotion.forget(window.first)
        self.clock.forget(sample_of(window.first, self.slider.rate))
        levels = self.loudness.push(window) if rendering.life else None
        job = Job(window, rendering, levels, vector, deadline, self.generation)
        self.in_flight.append(job)
        self.at_engine += 1
        return job

    def wake_at(self) -> float:
        """When the time of the next window comes; inf while there is none."""
        if not self.live or not self.slider.ready or self.at_engine >= MAX_IN_FLIGHT:
            return float("inf")
        return self._due() - AHEAD_S

    def _complete_at(self, due: float) -> float:
        """When the last of the next window's sound is spoken, or came, if it came late: silence
        that makes up for a gap is due long before.
        """
        slider = self.slider
        spoken = due + (slider.lookahead + 1) / FPS + slider.delay / slider.rate
        needed = sample_of(slider.next_end, slider.rate) + slider.delay
        return max(spoken, self.clock.arrived(needed))

    def _due(self) -> float:
        """When the last frame of the next window is spoken."""
        return self.clock.due(sample_of(self.slider.next_last - 1, self.slider.rate))

    def cancel_jobs(self) -> None:
        """Begins the next generation: what the engine has is of no use any more."""
        self.generation += 1
        self.in_flight.clear()
        self.early.clear()

    def is_current(self, job: Job) -> bool:
        return job.generation == self.generation

    # Results in

    def complete(self, job: Job, output: NDArray[Any] | None, clock_us: int) -> None:
        """The engine's output for a job; puts the frames of all that are complete in order."""
        self.at_engine -= 1
        if not self.is_current(job):
            return
        self.early[job.window.end] = output
        while self.in_flight and self.in_flight[0].window.end in self.early:
            first = self.in_flight.popleft()
            self._put(first, self.early.pop(first.window.end), clock_us)

    def _put(self, job: Job, output: NDArray[Any] | None, clock_us: int) -> None:
        """A window's frames, or that they are dropped, with the marks among them."""
        window, frames = job.window, None
        if output is not None:
            displacement = self.stitcher.push(window, output)
            frames = FrameChunk(window.first, displacement, job.rendering, job.levels)
        while self.next_frame < window.last:
            end = max(
                self.next_frame, min(window.last, self.marks[0][0] if self.marks else 1 << 62)
            )
            if frames is None:
                self.outbox.announce_dropped(self.next_frame, end, "overload")
            else:
                part, frames = frames.split(end - self.next_frame)
                self.outbox.put_frames(part)
                if self.publish is not None and len(part):
                    self.publish(part, clock_us)
            self.next_frame = end
            self.put_reached_marks()

    def put_reached_marks(self) -> None:
        while self.marks and self.marks[0][0] <= self.next_frame:
            n, name = self.marks.popleft()
            self.outbox.put(wire.MarkReached(name, n))

    def limit_backlog(self, *, connected: bool) -> None:
        """Drops the oldest unsent frames of a live stream beyond the bound."""
        outbox = self.outbox
        if not self.live:  # its windows are taken only while there is room
            return
        if not connected:
            outbox.drop_oldest(max(0, outbox.waiting - HISTORY), "resume")
        else:  # Resent frames come at once; the reader is not slow for that.
            outbox.drop_oldest(max(0, outbox.waiting - LIVE_BACKLOG - outbox.resent), "slow_reader")

    def finish_if_complete(self) -> bool:
        """Puts the last marks and the `end` once every frame is in the outbox, or dropped."""
        if self.next_frame < self.slider.total:
            return False
        self.put_reached_marks()
        self.outbox.put(wire.End(0, 0, self.slider.received / self.slider.rate))
        return True
