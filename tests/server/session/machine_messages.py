"""The rules of the session machine by which a client sends its messages."""

import base64
import json
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kfusion import wire
from kfusion.config import SAMPLE_RATE
from kfusion.emotion import EMOTIONS, vector
from kfusion.errors import BadMessage, NoFace
from kfusion.landmarks import Identity
from server.pictures.request import FoundFace, Search
from server.session.states import State
from server.session.windows import MAX_MARKS
from tests.server.session.machine_model import FACES, LIMITS, WEIGHTS, Model, starts
from tests.server.session.refused_messages import DEEP, REFUSED, REFUSED_STARTS


class MessageRules(Model):
    def can_send(self) -> bool:
        return self.connected and self.state is not State.CLOSED and self.session.wants_input

    def can_send_new(self) -> bool:
        return self.can_send() and self.state is State.NEW

    def can_send_open(self) -> bool:
        return self.can_send() and self.state is State.OPEN

    # Start

    @precondition(can_send)
    @rule(fields=starts())
    def start(self, fields: dict[str, Any]) -> None:
        face = FACES.get(fields["identity"])
        own = "neutral" if face is None else {"points": face.tolist()}
        message = json.dumps({**fields, "identity": own})
        if self.session.state is not State.NEW:
            if not self.refused_or_ignored(message):
                self.refused(message, "bad_message")
            return
        self.begin_stream(fields)
        self.give(message)
        assert self.session.state is State.OPEN

    @precondition(can_send_new)
    @rule(refused=st.sampled_from(REFUSED_STARTS))
    def refused_start(self, refused: tuple[str, str]) -> None:
        self.refused(*refused, fatal=True)

    @precondition(can_send_new)
    @rule()
    def ask_for_another_session(self) -> None:
        self.ignored('{"type":"start","resume":{"token":"t","next":7}}')
        assert self.session.resume_request == wire.ResumeFrom("t", 7)
        self.begin(self.limits, None)  # the shell goes on with the other one

    @precondition(can_send)
    @rule(refused=st.sampled_from(REFUSED), times=st.sampled_from([1] * 9 + [30]))
    def nonsense(self, refused: tuple[str | bytes, str], times: int) -> None:
        message, code = refused
        message = "[" * 3000 if message == DEEP else message
        first = "not_started"  # the code before the start
        if isinstance(message, str):
            try:
                if isinstance(wire.parse_client(message), wire.Start):
                    return  # is refused after a start alone
            except BadMessage:
                first = "bad_message"
        for _ in range(times):
            if not self.refused_or_ignored(message, first):
                self.refused(message, code)

    # Sound

    @precondition(can_send)
    @rule(
        size=st.one_of(st.integers(0, 3), st.integers(0, 6000), st.integers(0, 200_000)),
        loud=st.booleans(),
    )
    def audio(self, size: int, loud: bool) -> None:
        if not self.fields:
            self.refused_or_ignored(bytes(size))
            return
        sample_format, channels = self.fields["audio"]["format"], self.fields["audio"]["channels"]
        mono = np.zeros(size, np.float32)
        if loud and self.rate == SAMPLE_RATE:
            mono = self.rng.integers(-9999, 9999, size).astype(np.float32) / 32768
        each = np.repeat(mono, channels)
        data = (each * 32768).astype("<i2") if sample_format == "s16le" else each.astype("<f4")
        message = data.tobytes()
        if self.refused_or_ignored(message):
            return
        too_fast = self.too_fast(size, silent=False)
        if sample_format == "f32le" and size and not loud and size % 7 == 0:
            data = data.copy()
            data[size // 2] = np.nan
            self.refused(data.tobytes(), "bad_audio")
        elif too_fast:
            self.refused(message, "too_fast")
        elif too_fast is not None:
            self.sound.parts.append((self.received, mono.astype(np.float32)))
            self.give_sound(message, size, silent=False)

    @precondition(can_send)
    @rule(samples=st.one_of(st.integers(0, 9000), st.integers(0, 300_000)))
    def silence(self, samples: int) -> None:
        message = json.dumps({"type": "silence", "samples": samples})
        if self.refused_or_ignored(message):
            return
        too_fast = self.too_fast(samples, silent=True)
        if too_fast:
            self.refused(message, "too_fast")
        elif too_fast is not None:
            self.give_sound(message, samples, silent=True)

    @precondition(can_send)
    @rule()
    def reset(self) -> None:
        message = '{"type":"reset"}'
        if self.refused_or_ignored(message):
            return
        self.taken = self.computed = self.total
        self.resets += 1
        self.sound.parts.clear()
        if self.due_end is not None:
            self.due_end = min(self.due_end, self.now)
        self.client.replies.expect(wire.ResetDone(self.total, self.received))
        self.give(message)
        assert not self.windows.marks and not self.session.outbox.waiting

    @precondition(can_send_open)
    @rule(chunks=st.integers(1, 12))
    def interrupt(self, chunks: int) -> None:
        """Sound and its withdrawal, quicker than any engine."""
        for _ in range(chunks):
            self.silence(self.rate)
            self.reset()

    @precondition(lambda self: self.can_send() and self.state is not State.NEW)
    @rule(rarely=st.integers(0, 2))
    def end(self, rarely: int) -> None:
        if self.state is State.OPEN and rarely:
            return
        message = '{"type":"end"}'
        if self.state is State.ENDING and self.resumptions:
            self.ignored(message)
        elif not self.refused_or_ignored(message):
            self.ended = True
            self.give(message)

    @precondition(lambda self: self.connected and self.state in (State.ENDED, State.CLOSED))
    @rule(message=st.sampled_from([b"\0" * 8, '{"type":"reset"}', '{"type":"start"}', "?"]))
    def too_late(self, message: str | bytes) -> None:
        self.ignored(message)

    # Marks and emotions

    @precondition(can_send)
    @rule(name=st.text(max_size=6), times=st.sampled_from([1] * 9 + [700]))
    def mark(self, name: str, times: int) -> None:
        message = json.dumps({"type": "mark", "id": name})
        for _ in range(times):
            if self.refused_or_ignored(message):
                return
            if len(self.windows.marks) >= MAX_MARKS:
                self.refused(message, "bad_message")
                continue
            self.client.marks.expect(wire.MarkReached(name, self.total))
            self.give(message)

    @precondition(can_send)
    @rule(
        weights=WEIGHTS,
        ramp=st.sampled_from([0.0, 0.3, 2.0, 3600.0]),
        times=st.sampled_from([1] * 9 + [900]),
    )
    def emotion(self, weights: dict[str, float], ramp: float, times: int) -> None:
        message = json.dumps({"type": "emotion", "weights": weights, "ramp": ramp})
        for _ in range(times):
            if self.refused_or_ignored(message):
                return
            n = self.total
            self.emotions.set(n, weights, ramp)
            full = {k: float(w) for k, w in zip(EMOTIONS, vector(weights), strict=True)}
            self.client.replies.expect(wire.EmotionSet(full, n, ramp))
            self.give(message)

    # Identities

    @precondition(can_send)
    @rule(name=st.sampled_from(["a", "b", "c", "neutral"]), face=st.sampled_from([None, *FACES]))
    def identity(self, name: str, face: str | None) -> None:
        fields: dict[str, Any] = {"type": "identity", "id": name}
        if face is not None:
            fields["points"] = FACES[face].tolist()
        message = json.dumps(fields)
        if self.refused_or_ignored(message):
            return
        if not self.may_put(name, face):
            self.refused(message, "bad_identity")
            return
        if name != "neutral":
            self.stored.setdefault(name, face)
        replaced, self.picture = self.picture, None
        fatal = replaced is not None and self.count_error()
        if replaced is not None:
            self.client.replies.expect(wire.Error("bad_identity", "", fatal))
        if not fatal:
            self.expect_identity(name)
        self.give(message)

    @precondition(can_send)
    @rule(name=st.sampled_from(["a", "b", "c"]), face=st.sampled_from([*FACES]))
    def send_picture(self, name: str, face: str) -> None:
        """A picture of a face, which is searched elsewhere."""
        image = base64.b64encode(f"picture of {face}".encode()).decode()
        message = json.dumps({"type": "identity", "id": name, "image": image})
        if self.refused_or_ignored(message):
            return
        if name not in self.stored and len(self.stored) >= self.limits.identities:
            self.refused(message, "bad_identity")
            return
        replaced, self.picture = self.picture, (name, face)
        self.session.receive(message, self.now)
        self.received_at = self.now
        if replaced not in (None, self.picture):
            self.expect_error("bad_identity")
        if self.session.state is not State.CLOSED:
            assert self.session.search == Search(name, f"picture of {face}".encode())
        self.step()

    @precondition(lambda self: self.picture and self.state in (State.OPEN, State.ENDING))
    @rule(finds=st.booleans(), note=st.sampled_from(["", "the mouth was open"]))
    def finish_search(self, finds: bool, note: str) -> None:
        search = self.session.search
        assert self.picture is not None and search is not None
        (name, face), self.picture = self.picture, None
        taken = self.stored.get(name, face) != face
        room = name in self.stored or len(self.stored) < self.limits.identities
        found = FoundFace(Identity.from_points(FACES[face]), note)
        if finds and room and not taken:
            self.stored[name] = face
            self.expect_identity(name, note)
            self.session.found(search, found, self.now)
        else:
            self.session.found(search, found if finds else NoFace("none"), self.now)
            self.expect_error("bad_identity" if finds else "no_face")
        self.step()
        before = self.snapshot()
        self.session.found(search, NoFace("once more"), self.now)  # comes too late
        assert self.snapshot() == before

    @precondition(lambda self: self.state is State.CLOSED)
    @rule(limits=LIMITS, fields=starts())
    def begin_again(self, limits: wire.Limits, fields: dict[str, Any]) -> None:
        self.finish()
        self.begin(limits, fields)

    def finish(self) -> None:
        raise NotImplementedError
