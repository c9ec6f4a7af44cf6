"""What the markets of a node share, and how they draw the servers that they ask."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import trio

from orderbook.needs import Crowd, Tally
from orderbook.shell_intake import Intake
from orderbook.shell_source import Source
from orderbook.store_book import BookStore
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness, Streams

AT_ONCE: Final = 4  # markets that are levelled at a time: a server gives a peer few streams


class Rooms:
    """What all markets share."""

    def __init__(
        self,
        store: BookStore,
        intake: Intake,
        streams: Streams,
        crowd: Crowd,
        network: Network,
        clock: Clock,
        randomness: Randomness,
        tally: Tally,
        group: Callable[[str], str | None],
    ) -> None:
        self.group = group
        self.store, self.intake, self.streams, self.crowd = store, intake, streams, crowd
        self.network, self.clock, self.random, self.tally = network, clock, randomness, tally
        self.turns = trio.Semaphore(AT_ONCE)
        self.kept_out: dict[bytes, float] = {}  # source -> until when it is not asked

    def some(self, sources: Sequence[Source], count: int) -> list[Source]:
        """Draw `count` sources by lot."""
        keyed = [(self.random.bytes(8), source) for source in sources]
        return [source for _, source in sorted(keyed, key=lambda pair: pair[0])][:count]

    def apart(self, sources: Sequence[Source], count: int) -> list[Source]:
        """Draw `count` by lot, first one of each subnet, then another of each, and so on.

        Whoever registers a hundred servers on one machine is asked once.
        """
        met, keyed = Counter[object](), []
        for source in self.some(sources, len(sources)):
            crowd = self.crowd_of(source.node_id, host_of(source.addrs[0]))
            keyed.append((met[crowd], source))
            met[crowd] += 1
        return [source for _, source in sorted(keyed, key=lambda pair: pair[0])][:count]

    def crowd_of(self, node_id: bytes, host: str) -> object:
        """Return what may be one hand: a subnet, or a node that is in none."""
        return self.group(host) or node_id

    def keep_out(self, source: Source, seconds: float) -> None:
        """Do not ask a source for so long."""
        now = trio.current_time()
        self.kept_out = {node: at for node, at in self.kept_out.items() if at > now}
        self.kept_out[source.node_id] = now + seconds


def host_of(addr: str) -> str:
    """Return the host of an address such as /ip4/192.0.2.1/tcp/4001."""
    parts = addr.split("/")
    return parts[2] if len(parts) > 2 else ""
