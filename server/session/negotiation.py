"""WebRTC as a session sees it: the client's offer, and the media that were negotiated."""

from typing import Final, Protocol

from kfusion.errors import BadMessage
from server.admission.token_bucket import TokenBucket

MAX_OFFERS: Final = 8.0  # at once, for each costs keys and sockets; then one a second


class Media(Protocol):
    """What brings a session's sound where its connection does not."""

    def flush(self) -> None:
        """Gives at once what it holds back."""

    def skip(self, samples: int) -> None:
        """So much silence came otherwise, and is not to be given again."""


class Negotiation:
    """``offer`` is the SDP that waits for an answer; ``media`` brings the sound, once attached."""

    def __init__(self, now: float) -> None:
        self.offer: str | None = None
        self.media: Media | None = None
        self.bucket = TokenBucket(1.0, MAX_OFFERS, now)

    def begin(self, sdp: str, now: float) -> None:
        """Raises :class:`~kfusion.errors.BadMessage` for an offer that is one too many."""
        if self.offer is not None:
            raise BadMessage("a second offer before the answer; wanted one at a time")
        if self.bucket.spend(1.0, now):
            raise BadMessage(
                f"more than {MAX_OFFERS:.0f} offers at once; wanted one a second after those"
            )
        self.offer = sdp

    def attach(self, media: Media) -> None:
        """These media bring the sound from now on."""
        self.media = media

    def detach(self, media: Media | None) -> None:
        """These media are gone; others that were attached after them stay."""
        if self.media is media:
            self.media = None
