"""Traders who are never there together once the contract is signed, over real nodes of the DHT.

Five nodes hold the letters. Each trader comes, reads, does what is due, posts and is gone
before the other comes; his streams, his DHT node and everything in his memory go with him.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from dht_kit import Node as DhtNode
from dht_kit import Town, town
from mailbox_kit import NETWORK
from trade_kit import Node, Rig, rig
from trade_mail import Away, mail, said_once

from dht import mailbox
from dht.mailbox import BOUNDS, KIND
from dht.shell_mailbox import Mailbox
from escrow.messages import Kind
from escrow.model import (
    Closed,
    Funded,
    Funding,
    Releasing,
    SayPaid,
    SayReceived,
)

HOLDERS, K = 5, 4
TRADERS = ("maker", "taker")


class Village:
    """The holders, and a DHT node for each peer that is there."""

    def __init__(self, build: Town, clock: Any) -> None:
        self._build, self._clock = build, clock
        self.holders: list[DhtNode] = []
        self.there: dict[str, DhtNode] = {}
        self.met = 0

    async def node(self, name: str, listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)) -> DhtNode:
        made: DhtNode = await self._build.node(name, k=K, clock=self._clock, listen=listen)
        made.dht._kinds.register(KIND, mailbox.validator(NETWORK), BOUNDS)
        return made

    async def begin(self) -> None:
        for index in range(HOLDERS):
            self.holders.append(await self.node(f"holder {index}"))
            if index:
                assert await self.holders[-1].dht.join([self.holders[0].peer]) >= 1
        for one in self.holders:
            await one.dht.refresh()

    async def comes(self, name: str) -> None:
        self.met += any(other in self.there for other in TRADERS if name in TRADERS)
        self.there[name] = await self.node(name, listen=())
        assert await self.there[name].dht.join([h.peer for h in self.holders]) >= 1

    async def goes(self, name: str) -> None:
        await self.there.pop(name).kill()

    def box(self, node: Node) -> Mailbox:
        return Mailbox(_Way(self, node.name), node.identity, NETWORK, self._clock, node.database)


class _Way:
    """One peer's way to the holders: through his own DHT node, while it is there."""

    def __init__(self, village: Village, name: str) -> None:
        self._village, self._name = village, name

    async def put(self, kind: str, raw: bytes) -> Any:
        return await self._village.there[self._name].dht.put(kind, raw)

    async def get(self, kind: str, key: bytes) -> Any:
        return await self._village.there[self._name].dht.get(kind, key)


class Shifts:
    """Lets one peer be there at a time."""

    def __init__(self, r: Rig, village: Village) -> None:
        self.rig, self.village = r, village
        self.count = 0

    async def shift(self, name: str, work: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Come, read, work, post what is due, and go."""
        r, node = self.rig, self.rig[name]
        await self.village.comes(name)
        await r.nursery.start(node.run)
        await self._read(name)
        if work:
            await work()
        await self._read(name)

        async def posted() -> None:
            for peer in node.journal.recipients():
                node.exchange._courier.poke(peer)
            if node.journal.recipients():
                rows = node.database.all("SELECT acked FROM mailbox_out WHERE ended = 0")
                waits = [w for p in node.journal.recipients() for w in node.journal.waits_for(p)]
                letters = node.database.all(
                    "SELECT DISTINCT peer, trade_id, number FROM mailbox_out WHERE number >= 0"
                )
                assert {(w.trade_id, w.seq) for w in waits} <= {
                    (row["trade_id"], row["number"]) for row in letters
                }
                assert all(row["acked"] for row in rows)
            assert node.box is not None
            assert not node.box.counts()["deletions"]

        await r.eventually(posted)
        await r.stop(name)
        await self.village.goes(name)
        self.count += 1

    async def _read(self, name: str) -> None:
        """Read until nothing new lies there and nothing is left to do."""
        r = self.rig
        await r.synced()
        for trade in self.rig[name].journal.rows("trader"):
            await r.quiet(name, trade.trade_id)
        while True:
            before = mail(r, name).tally["letters_applied"]
            await mail(r, name).collect()
            for trade in self.rig[name].journal.rows("trader"):
                await r.quiet(name, trade.trade_id)
            if mail(r, name).tally["letters_applied"] == before:
                return


async def test_a_trade_whose_buyer_and_seller_never_meet_after_the_contract() -> None:
    async with town() as build:
        made: list[Village] = []

        def box(node: Node) -> Mailbox:
            if not made:
                made.append(Village(build, node.rig.clock))
            return made[0].box(node)

        async with rig(mailbox=box, hook=(away := Away())) as r:
            village = made[0]
            await village.begin()
            for name in r.nodes:
                await village.comes(name)
            village.met = 0
            trade_id = await r.take()
            await r.both(trade_id, Funding)
            for name in TRADERS:
                await r.stop(name)
                await village.goes(name)
            shifts = Shifts(r, village)
            rounds = 0
            while not r.mempool():
                assert rounds < 4, "no funding after four shifts of each"
                for name in TRADERS:
                    await shifts.shift(name)
                rounds += 1
            r.mine()
            contract = r["maker"].facts(trade_id).contract
            buyer, seller = (r.post.names[x] for x in (contract.buyer, contract.seller))
            await shifts.shift(seller)  # his ACCOUNT
            await shifts.shift(buyer)  # ACK
            assert isinstance(r[buyer].state(trade_id), Funded)
            await shifts.shift(seller)
            await shifts.shift(buyer, lambda: r.act(buyer, trade_id, SayPaid("sent")))
            await shifts.shift(seller, lambda: r.act(seller, trade_id, SayReceived()))
            assert isinstance(r[seller].state(trade_id), Releasing)
            await shifts.shift(buyer)
            assert isinstance(r[buyer].state(trade_id), Releasing)
            assert not r[buyer].journal.waits_for(r[seller].id)  # by RECEIVED's seen alone
            assert r.mempool()
            r.mine(6)
            for name in TRADERS:
                await shifts.shift(name)
                state = r[name].state(trade_id)
                assert isinstance(state, Closed)
                assert state.outcome == "released"
            assert village.met == 0  # the fault: they never met
            assert shifts.count >= 10
            said_once(r, trade_id)
            late = [f for f in r.post.seen if f.kind >= Kind.INPUTS]
            assert len(late) == len(away.lost)  # no stream carried any of it
