"""The identity that a client asks for: stored or new points, or a face to find in a picture."""

from kfusion import wire
from kfusion.errors import BadIdentity, BadMessage, WireError
from kfusion.landmarks import Identity
from server.pictures.request import FoundFace, Search, SearchResult
from server.session.identities import Identities


class IdentitySearch:
    """``pending`` is the picture whose face is being looked for elsewhere, or None.

    Every request is answered, and a later one takes the place of the pending one.
    """

    def __init__(self, identities: Identities, *, available: bool) -> None:
        self.identities, self.available = identities, available
        self.pending: Search | None = None

    def request(self, message: wire.SetIdentity) -> tuple[FoundFace | None, BadIdentity | None]:
        """The face to show at once, if there is one, and the error that answers the request whose
        place this one takes.

        Raises :class:`~kfusion.errors.WireError`, and changes nothing, for one that is refused.
        """
        face = search = None
        if message.image is not wire.UNSET:
            search = self._search(message.id, message.image)
            if search == self.pending:  # sent again, as after a lost connection: one answer
                return None, None
        else:
            if message.points is not wire.UNSET:
                self.identities.put(message.id, Identity.from_points(message.points))
            face = FoundFace(self.identities[message.id])
        replaced, self.pending = self.pending, search
        if replaced is None:
            return face, None
        return face, BadIdentity(
            f"identity {replaced.name!r}: a later identity came before its face was found; wanted "
            "this one answered first, or sent again"
        )

    def _search(self, name: str, image: str) -> Search:
        if not self.available:
            raise BadMessage(
                "identity.image: this server finds no faces (its operator installs that by pip "
                "install 'kfusion[face]'); wanted points"
            )
        search = Search.from_base64(name, image)
        self.identities.check(name)
        return search

    def finish(self, result: SearchResult) -> FoundFace:
        """Ends the pending search; the face, which has its id from now on.

        Raises :class:`~kfusion.errors.WireError` where there is none, or it cannot have the id.
        """
        search, self.pending = self.pending, None
        if isinstance(result, WireError):
            raise result
        assert search is not None
        self.identities.put(search.name, result.identity)
        return result
