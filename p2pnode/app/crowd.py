"""The DHT as the followers of a market use it: news of its offers, and each other."""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from dht.keys import record_key
from dht.records import Bounds, Record, Validator
from dht.shell_node import Dht
from orderbook import market_server
from orderbook.needs import Take
from p2pnode.base.errors import NodeError
from p2pnode.base.networks import Network

SERVER_BOUNDS: Final = Bounds(
    record_bytes=market_server.MAX_BYTES,
    per_key=market_server.MAX_SERVERS,
    share=0.05,
    passed_on=False,  # whoever serves says so again every ten minutes
)
BATCH: Final = 256  # records handed on at a time


def server_key(network: Network, currency: str) -> bytes:
    """Return the DHT key of a market's servers."""
    return record_key(network, market_server.KIND, currency)


def server_validator(network: Network) -> Validator:
    """Return the kind's validator for `Kinds`."""

    def validate(raw: bytes, now: int) -> Record:
        found = market_server.parse(raw, network, now)
        key = server_key(network, found.currency)
        end = found.expires_at
        return Record(market_server.KIND, key, found.node_id, b"", end, end, raw, found.lot)

    return validate


class DhtCrowd:
    """The order book's `Crowd` over the DHT; `kind` is that of offers."""

    def __init__(self, dht: Dht, network: Network, kind: str) -> None:
        self._dht, self._network, self._kind = dht, network, kind

    async def hear(self, currency: str, take: Take, ready: Callable[[], None]) -> None:
        """Pass on what the market's holders have, then each change; returns when one ends."""
        left, faults = self._network.shards, list[NodeError]()

        async def shard(key: bytes) -> None:
            nonlocal left
            async with self._dht.listen(self._kind, key) as records:
                batch: list[bytes] = []
                while True:
                    try:
                        batch.append(records.receive_nowait().raw)
                    except trio.WouldBlock:
                        break
                    except trio.EndOfChannel:
                        return
                for start in range(0, len(batch), BATCH):
                    await take(batch[start : start + BATCH])
                left -= 1
                if not left:
                    ready()
                async for record in records:
                    await take(_with_more(record.raw, records))

        async with trio.open_nursery() as nursery:

            async def until_one_ends(key: bytes) -> None:
                try:
                    await shard(key)
                except NodeError as error:
                    faults.append(error)
                nursery.cancel_scope.cancel()

            for key in self._keys(currency):
                nursery.start_soon(until_one_ends, key)
        if faults:
            raise faults[0]

    def holders(self, currency: str) -> frozenset[bytes]:
        """Return the nodes that tell us of a market's changes now."""
        keys = self._keys(currency)
        return frozenset(n for key in keys for n in self._dht.tellers(self._kind, key))

    async def servers(self, currency: str) -> tuple[bytes, ...]:
        """Return the records of a market's servers."""
        key = server_key(self._network, currency)
        return tuple(r.raw for r in (await self._dht.get(market_server.KIND, key)).records)

    async def serve(self, record: bytes) -> int:
        """Put our own record as a market's server; returns how many nodes hold it."""
        return (await self._dht.put(market_server.KIND, record)).acked

    async def locate(self, node_id: bytes) -> tuple[str, ...]:
        """Return where a node may be reached."""
        return await self._dht.locate(node_id)

    async def lied(self, node_id: bytes) -> None:
        """Hold what is not valid against the node that sent it."""
        await self._dht.lied(node_id)

    def _keys(self, currency: str) -> list[bytes]:
        shards = range(self._network.shards)
        return [record_key(self._network, self._kind, currency, shard) for shard in shards]


def _with_more(raw: bytes, records: trio.MemoryReceiveChannel[Record]) -> Sequence[bytes]:
    """Return a record and those that wait behind it."""
    batch = [raw]
    while len(batch) < BATCH:
        try:
            batch.append(records.receive_nowait().raw)
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return batch
