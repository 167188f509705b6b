"""Admission of streams: by number, by address, and by what else refuses one. Pure."""

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

from kfusion.errors import Busy

RETRY_S: Final = 5
"""When a refused client should try again: slots are freed by the second, not by the minute."""


class Slots:
    """A session has a slot from its start to its end, also while its connection is lost.

    ``refuses`` gets the windows per second of all sessions and of one more (0 for a file), and
    returns a reason against that one, or None.
    """

    def __init__(
        self, limit: int, per_address: int, refuses: Callable[[float, float], str | None]
    ) -> None:
        self.limit, self.per_address, self.refuses = limit, per_address, refuses
        self.used: dict[Hashable, tuple[str, float]] = {}  # session: network, windows per second
        self.by_network: Counter[str] = Counter()
        self.demand = 0.0

    def refusal(self, demand: float) -> str | None:
        """The reason against one more stream with this demand, from any address."""
        if len(self.used) >= self.limit:
            return f"all {self.limit} streams are taken"
        return self.refuses(self.demand, demand)

    def take(self, session: Hashable, address: str, demand: float) -> None:
        """Raises :class:`~kfusion.errors.Busy`, and changes nothing, if there is no slot."""
        reason = self.refusal(demand)
        network = network_of(address)
        if network is not None and self.by_network[network] >= self.per_address:
            reason = f"{network} has {self.per_address} streams, the most that one address may have"
        if reason is not None:
            raise Busy(reason, RETRY_S)
        self.used[session] = (network or "", demand)
        self.by_network[network or ""] += 1
        self.demand = sum(d for _, d in self.used.values())

    def release(self, session: Hashable) -> bool:
        """Frees the session's slot; returns whether it had one."""
        network, _ = self.used.pop(session, (None, 0.0))
        if network is None:
            return False
        self.by_network[network] -= 1
        if not self.by_network[network]:
            del self.by_network[network]
        self.demand = sum(d for _, d in self.used.values())
        return True


def network_of(address: str) -> str | None:
    """What counts as one address: an IPv4 address, or an IPv6 /64. None is this machine, whose
    users and proxies are many.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ipaddress.ip_network((ip, 64), strict=False))
