"""Many hostile clients at once, over bare sockets.

    python -m tests.system.chaos --port 8765 --clients 200 --seconds 10 --seed 1

Each client repeats one behaviour of tests/system/hostile_clients.py until the time is up. What came
of it is printed as JSON, by behaviour.
"""

import argparse
import asyncio
import json
import os
import random
import sys
from collections import Counter
from typing import Any

from tests.system.bare_socket import BareSocket, ConnectionEnded
from tests.system.hostile_clients import KINDS


async def one(name: str, port: int, seed: int, outcomes: Counter[str]) -> None:
    """One client: the same behaviour on one connection after another."""
    rng = random.Random(seed)
    await asyncio.sleep(rng.uniform(0, 0.5))
    while True:
        line = BareSocket(port, outcomes)
        try:
            await KINDS[name](line, rng)
        except ConnectionEnded as gone:
            outcomes[str(gone)] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1
        finally:
            line.vanish()
        await asyncio.sleep(rng.uniform(0.05, 0.2))


async def crowd(port: int, names: list[str], clients: int, seconds: float, seed: int) -> Any:
    """So many clients, the kinds in turn; {kind: {what came of it: how often}}."""
    outcomes = {name: Counter[str]() for name in names}
    tasks = [
        asyncio.create_task(one(names[k % len(names)], port, seed * 10_000 + k, outcomes[name]))
        for k in range(clients)
        for name in [names[k % len(names)]]
    ]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()  # only a mistake of its own ends a client
    return outcomes


def main() -> int:
    p = argparse.ArgumentParser(prog="tests.system.chaos", description=__doc__)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--clients", type=int, default=200)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    a = p.parse_args()
    os.nice(19)  # they would be on other machines: the server's time is to be had, not the CPU's
    outcomes = asyncio.run(crowd(a.port, a.kinds, a.clients, a.seconds, a.seed))
    json.dump(outcomes, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
