"""Two nodes that negotiate, over real journals, machines and inboxes; the test is the courier.

Nothing of a trade is behind them: where a maker would answer a TAKE, `Side.takes` asks what
`shell_opening` asks, in the same order.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bargain_tables import AMOUNT, h, take, terms, who
from trade_fakes import Desk, SetClock

from escrow.bargain import Policy
from escrow.messages import Message
from escrow.payloads import Take
from escrow.shell_bargain import Bargains
from escrow.shell_inbox import APPLIED, LATER, Inbox, read_reply
from escrow.store_bargain import Row
from escrow.store_journal import Journal
from escrow.terms import Terms
from p2pnode.app.events import Events
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NET = NETWORKS["sandbox"]
KIND = "wsh-2of3-backup"


class _Chain:
    def tip(self) -> Any:
        return SimpleNamespace(height=100, hash=h("tip"))


@dataclass
class Side:
    """One node. What a crash leaves of it is its database."""

    name: str
    clock: SetClock
    desk: Desk = field(init=False)
    database: Database = field(default_factory=lambda: Database(None))
    journal: Journal = field(init=False)
    bargains: Bargains = field(init=False)
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.desk = Desk(self.name)
        self.start()

    @property
    def id(self) -> bytes:
        return who(self.name).node_id

    def start(self) -> None:
        """Begin, or begin again over what was committed."""
        self.journal = Journal(self.database, NET)
        world: Any = SimpleNamespace(
            identity=who(self.name),
            me=self.id,
            network=NET,
            journal=self.journal,
            clock=self.clock,
            randomness=SystemRandomness(),
            chain=_Chain(),
            desk=self.desk,
            announce=Events(self.database, self.clock),
        )
        trades: Any = SimpleNamespace(world=world)
        opening: Any = None
        self.bargains = Bargains(world)
        self.inbox = Inbox(trades, opening, self.bargains)

    # -- saying

    def propose(self, offer: Terms, fiat: int, amount: int = AMOUNT) -> bytes:
        return self.bargains.propose(
            offer, offer.offer_hash, amount, fiat, account_id=h("account"), escrow_kind=KIND
        )

    def row(self, bargain_id: bytes) -> Row:
        return self.bargains.row(bargain_id)

    def state(self, bargain_id: bytes) -> Any:
        return self.row(bargain_id).state

    def last(self, bargain_id: bytes) -> Message:
        return self.journal.messages(bargain_id)[-1]

    def events(self) -> list[str]:
        return [e["state"] for e in Events(self.database).after(0)]

    def rows_kept(self) -> tuple[int, int]:
        """How many negotiations and how many messages lie here."""
        counts = [
            self.database.one(f"SELECT count(*) AS n FROM {table}")  # noqa: S608
            for table in ("bargain", "message")
        ]
        return counts[0]["n"], counts[1]["n"]

    # -- taking

    def offered(self, bargain_id: bytes, **change: Any) -> Take:
        """The TAKE that a taker would sign now."""
        state = self.state(bargain_id)
        return take(state.counter_id, state.fiat_minor, **change)

    def takes(self, what: Take, taker: bytes, trade_id: bytes) -> None:
        """Answer a TAKE as a maker does: look, compare, and use the COUNTER in one commit."""
        offer = self.desk.terms(what.offer_hash, what.method, b"")
        assert offer is not None
        offer.check(what, self.bargains.agreed(what, taker))
        with self.database.transaction():
            self.bargains.used(what, trade_id)


class Post:
    """Carries what waits, when told to."""

    def __init__(self, *sides: Side) -> None:
        self.sides = {s.id: s for s in sides}
        self.seen: list[tuple[bytes, bytes, bytes]] = []  # sender, recipient, raw
        self.refused: list[str] = []

    async def give(self, sender: Side, to: Side, raw: bytes) -> tuple[int, str]:
        """Deliver bytes on a connection of `sender`; returns the reply."""
        return read_reply(await to.inbox.deliver(raw, sender.id))[:2]

    async def one(self, sender: Side) -> bool:
        """Deliver the first message that waits at one side, as the courier does."""
        for peer in sender.journal.recipients():
            for message_id, bargain_id, raw in sender.journal.outbox(peer):
                self.seen.append((sender.id, peer, raw))
                status, text = await self.give(sender, self.sides[peer], raw)
                if status == LATER:
                    continue
                with sender.database.transaction():
                    if status == APPLIED:
                        sender.journal.delivered(message_id)
                    else:
                        sender.journal.drop_outbox(bargain_id, peer)
                if status != APPLIED:
                    self.refused.append(text)
                    assert sender.bargains.undelivered(bargain_id, text)
                return True
        return False

    async def all(self) -> None:
        """Deliver until nothing waits that can be."""
        while any([await self.one(side) for side in self.sides.values()]):
            pass


def booth(*others: str, policy: Policy | None = None) -> tuple[Side, Side, Post, Terms, list[Side]]:
    """A maker with one offer, a taker, their post, and strangers."""
    clock = SetClock()
    maker, taker = Side("maker", clock), Side("taker", clock)
    strangers = [Side(name, clock) for name in others]
    offer = terms()
    maker.desk.offers[offer.offer_hash] = offer
    if policy:
        maker.desk.policies[offer.offer_hash] = policy
    return maker, taker, Post(maker, taker, *strangers), offer, strangers
