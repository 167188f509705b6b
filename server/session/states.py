"""The states of a session, and what leads from one to another, as a table that Session executes.

::

                 start                  end             all frames are in the outbox
      NEW  ----------------->  OPEN  ---------->  ENDING  ----------------->  ENDED
       |                        |                   |                           |
       +------------------------+-------------------+---------------------------+-->  CLOSED
         fatal error, connection closed; without a connection for too long, except NEW

Everything that changes ``Session.state`` is an entry of ``TRANSITIONS``: a message of the client by
its type, or another :class:`Event`. A message that has no entry is refused (:func:`refusal`), and
the session stays as it was. In the states ended and closed messages are ignored.

=================  ==================  ===========  ===========  ======  ======
message, event     new                 open         ending       ended   closed
=================  ==================  ===========  ===========  ======  ======
Start              open                bad_message  bad_message
ResumeFrom         new                 bad_message  bad_message
bytes              not_started         open         bad_message
Silence            not_started         open         bad_message
SetEmotion         not_started, fatal  open         bad_message
SetIdentity        not_started, fatal  open         bad_message
Mark               not_started, fatal  open         bad_message
Reset              not_started, fatal  open         bad_message
SdpOffer           not_started, fatal  open         bad_message
EndOfAudio         not_started, fatal  ending       bad_message
RepeatedEnd        not_started, fatal  bad_message  ending
ALL_FRAMES_QUEUED                                   ended
FATAL_ERROR        closed              closed       closed
CONNECTION_LOST    closed              open         ending       ended   closed
CONNECTION_CLOSED  closed              closed       closed       closed  closed
RESUME_TIMEOUT                         closed       closed       closed
=================  ==================  ===========  ===========  ======  ======

``ResumeFrom`` is a ``start`` with ``resume``: it asks for another session, and nothing more follows
in this one. ``RepeatedEnd`` is an ``end`` in the state ending of a session that was resumed: the
client cannot know whether the first one arrived.
"""

from enum import Enum, auto
from typing import Any, Final

from kfusion import wire
from kfusion.errors import BadMessage, NotStarted, WireError


class State(Enum):
    NEW = "new"
    OPEN = "open"
    ENDING = "ending"  # no more audio is accepted
    ENDED = "ended"  # all frames and the `end` are in the outbox
    CLOSED = "closed"  # nothing more is computed


class RepeatedEnd:
    """An ``end`` that a client sends again after a resume."""


class Event(Enum):
    """What changes the state beside messages."""

    ALL_FRAMES_QUEUED = auto()
    FATAL_ERROR = auto()
    CONNECTION_LOST = auto()  # and the client may resume
    CONNECTION_CLOSED = auto()  # and it may not
    RESUME_TIMEOUT = auto()


TRANSITIONS: Final[dict[State, dict[type[Any] | Event, State]]] = {
    State.NEW: {
        wire.Start: State.OPEN,
        wire.ResumeFrom: State.NEW,
        Event.FATAL_ERROR: State.CLOSED,
        Event.CONNECTION_LOST: State.CLOSED,
        Event.CONNECTION_CLOSED: State.CLOSED,
    },
    State.OPEN: {
        bytes: State.OPEN,
        wire.Silence: State.OPEN,
        wire.SetEmotion: State.OPEN,
        wire.SetIdentity: State.OPEN,
        wire.Mark: State.OPEN,
        wire.Reset: State.OPEN,
        wire.SdpOffer: State.OPEN,
        wire.EndOfAudio: State.ENDING,
        Event.FATAL_ERROR: State.CLOSED,
        Event.CONNECTION_LOST: State.OPEN,
        Event.CONNECTION_CLOSED: State.CLOSED,
        Event.RESUME_TIMEOUT: State.CLOSED,
    },
    State.ENDING: {
        RepeatedEnd: State.ENDING,
        Event.ALL_FRAMES_QUEUED: State.ENDED,
        Event.FATAL_ERROR: State.CLOSED,
        Event.CONNECTION_LOST: State.ENDING,
        Event.CONNECTION_CLOSED: State.CLOSED,
        Event.RESUME_TIMEOUT: State.CLOSED,
    },
    State.ENDED: {
        Event.CONNECTION_LOST: State.ENDED,
        Event.CONNECTION_CLOSED: State.CLOSED,
        Event.RESUME_TIMEOUT: State.CLOSED,
    },
    State.CLOSED: {
        Event.CONNECTION_LOST: State.CLOSED,
        Event.CONNECTION_CLOSED: State.CLOSED,
    },
}


def refusal(state: State, message: type[Any]) -> tuple[WireError, bool]:
    """The error that answers a message without an entry in new, open or ending, and whether it is
    fatal: sound before `start` is not, for it may be on its way already.
    """
    sound = message in (bytes, wire.Silence)
    name = "audio" if message is bytes else message.__name__
    if state is State.NEW:
        return NotStarted(f"{name} before start; wanted start first"), not sound
    if state is State.OPEN:
        return BadMessage("a second start; wanted one start a connection"), False
    name = "audio" if message is bytes else "a message"
    return BadMessage(f"{name} after end; wanted nothing more"), False
