"""Who may stream: places for sessions, in all, by address, and by what the engine can do. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

from kfusion.errors import Busy
from server.engine.capacity import Capacity

RETRY_S: Final = 5
"""When to come back: places are given back by the second, not by the minute."""


class Places:
    """A session has a place from its start to its end, also while its connection is lost.

    ``strained`` says what else speaks against one more, or nothing.
    """

    def __init__(
        self, most: int, per_address: int, capacity: Capacity, strained: Callable[[], str | None]
    ) -> None:
        self.most, self.per_address = most, per_address
        self.capacity, self.strained = capacity, strained
        self.taken: dict[Hashable, tuple[str, float]] = {}  # who: network, windows a second
        self.by_network: Counter[str] = Counter()
        self.demand = 0.0

    def why_not(self, demand: float) -> str | None:
        """What speaks against one more stream of so many windows a second (0 for a file)."""
        if len(self.taken) >= self.most:
            return f"all {self.most} streams are taken"
        if demand and not self.capacity.admits(self.demand, demand):
            return (
                f"{self.demand:.0f} of the {self.capacity.windows_per_s:.0f} windows a second that "
                f"this server manages are taken; {demand:.0f} more would make all late"
            )
        return self.strained()

    def take(self, who: Hashable, address: str, demand: float) -> None:
        """Raises :class:`~kfusion.errors.Busy`, and changes nothing, if there is no place."""
        reason = self.why_not(demand)
        network = network_of(address)
        if network is not None and self.by_network[network] >= self.per_address:
            reason = f"{network} has {self.per_address} streams, the most that one address may have"
        if reason is not None:
            raise Busy(reason, RETRY_S)
        self.taken[who] = (network or "", demand)
        self.by_network[network or ""] += 1
        self.demand = sum(d for _, d in self.taken.values())

    def release(self, who: Hashable) -> bool:
        """Gives the place back; whether there was one."""
        network, _ = self.taken.pop(who, (None, 0.0))
        if network is None:
            return False
        self.by_network[network] -= 1
        if not self.by_network[network]:
            del self.by_network[network]
        self.demand = sum(d for _, d in self.taken.values())
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
