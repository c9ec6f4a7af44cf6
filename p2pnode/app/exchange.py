"""The trading half of a node: the trade's shells running over wallet, chain and DHT."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import trio

from escrow.messages import ZERO, Message
from escrow.model import Aborted, Cancel, Event, LoseTrust, Toxic
from escrow.needs import Mailbox, Registry
from escrow.payloads import MAX_NOTE
from escrow.shell_arbiter import ArbiterService
from escrow.shell_bargain import Bargains
from escrow.shell_bond import Bonds
from escrow.shell_broken import Board, Draws
from escrow.shell_courier import Courier
from escrow.shell_desktop import Desktop
from escrow.shell_earnings import Earnings
from escrow.shell_history import Introductions
from escrow.shell_inbox import Inbox
from escrow.shell_mail import Mail
from escrow.shell_opening import Opening
from escrow.shell_receipts import Receipts
from escrow.shell_redeem import Redemption
from escrow.shell_reminders import Reminders
from escrow.shell_standing import Standing
from escrow.shell_tender import Tender
from escrow.shell_trades import ENDED, Trades
from escrow.store_journal import ARBITER, TRADER, Row
from escrow.store_receipts import ReceiptStore
from escrow.store_remarks import Remarks
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.ports import Streams
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)

REFRESH_S: Final = 60


class Exchange:
    """Everything of a node that trades or judges; `run` keeps it going."""

    def __init__(
        self,
        world: Desktop,
        streams: Streams,
        registry: Registry,
        locate: Callable[[bytes], Awaitable[tuple[str, ...]]],
        database: Database,
        board: Board,
        mailbox: Mailbox | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.world = world
        self.trades = Trades(world)
        self.draws = Draws(world, board)
        self.bargains = Bargains(world)
        self.opening = Opening(self.trades, registry, self.bargains, draws=self.draws)
        self.tender = Tender(self.trades, self.trades.stall)
        self.bonds = Bonds(world, database)
        self.redemption = Redemption(world, self.bonds)
        self.arbiter = ArbiterService(world, registry, database, self.bonds)
        self.earnings = Earnings(self.trades)
        self.remarks = Remarks(database)
        self.reminders = Reminders(self.trades, self.remarks)
        self.standing = standing or Standing(ReceiptStore(database), world.chain, world.me)
        self.receipts = Receipts(self.trades, self.standing)
        self.introductions = Introductions(
            *(world, streams, locate, self.receipts, self.standing, self._acquainted)
        )
        self.opening.introduce = self.introductions.meet
        self.opening.look = partial(self.introductions.meet, show=False)
        inbox = Inbox(self.trades, self.opening, self.bargains)
        self._mailbox = mailbox  # without one, everything waits until both are online
        self._mail = Mail(mailbox, self.trades, inbox, self._judges) if mailbox else None
        self._courier = Courier(
            streams,
            world.network.protocol("trade"),
            world.journal,
            inbox,
            locate,
            self._refused,
            self._lost_data,
            self._mail.post if self._mail else None,
        )
        self._nursery: trio.Nursery | None = None
        self.trades.on_outbox = self._courier.poke
        self.bargains.on_outbox = self._courier.poke
        self.trades.on_begin = self._tend
        self.draws.on_lost = self._lost_before
        self.trades.on_lost = self._lost_before

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: every living trade has its tender."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await nursery.start(self._courier.run)
                for role in (TRADER, ARBITER):
                    for row in self.world.journal.rows(role):
                        if not self.trades.is_over(row):
                            self._tend(row.trade_id)
                if self._mail:
                    await nursery.start(self._mail.run)
                nursery.start_soon(self._follow)
                nursery.start_soon(self._learn)
                nursery.start_soon(self.bargains.run)
                nursery.start_soon(self.arbiter.run)
                nursery.start_soon(self.redemption.run)
                nursery.start_soon(self.earnings.run)
                nursery.start_soon(self.draws.run)
                nursery.start_soon(self.receipts.run)
                self.introductions.serve()
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # a stream may outlive us for a moment

    async def act(self, trade_id: bytes, event: Event) -> None:
        """Do what our user says, against a fresh view of the chain. Raises NodeError."""
        await self.tender.refresh(trade_id)
        state = self.trades.row(trade_id).state
        if isinstance(state, ENDED):
            raise LocalFault(f"this trade has ended: {type(state).__name__}")
        self.trades.advance(trade_id, event)

    def look(self) -> None:
        """Our user is looking: see what lies in the mailbox, if that was not just done."""
        if self._mail:
            self._mail.look()

    def delivery(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Return what lies in mailboxes now, and what was delivered since the start."""
        counts = self._mailbox.counts() if self._mailbox else {}
        letters = self._mail.tally if self._mail else Counter()
        return counts, self._courier.tally + letters + self.introductions.tally

    # -- tasks

    def _tend(self, trade_id: bytes) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self.tender.tend, trade_id)

    async def _follow(self) -> None:
        while True:
            self.reminders.look()
            await self.world.chain.changed()
            self.trades.wake_all()

    async def _learn(self) -> None:
        """Know the network's arbiters before a TAKE asks for them."""
        while True:
            try:
                await self.opening.refresh()
            except LocalFault as error:
                log.info("no arbiters learned: %s", error)
            await trio.sleep(REFRESH_S)

    def _judges(self) -> bool:
        """Tell whether strangers may have left first words: somebody may have drawn us."""
        return self.arbiter.registered() or bool(self.world.journal.rows(ARBITER))

    def _acquainted(self, peer: bytes, offer_hash: bytes) -> bool:
        """Tell whether a peer names a current offer of ours, or trades or talks with us."""
        desk = self.world.desk
        offer_id = desk.offer_id(offer_hash) if offer_hash != ZERO else b""
        if offer_id and desk.is_open(offer_id):
            return True
        if self.standing.store.trades_with(peer, (state.__name__ for state in ENDED)):
            return True
        return any(row.peer == peer and not row.ended for row in self.bargains.rows())

    # -- what goes wrong by itself

    def _lost_before(self, why: str, height: int | None = None) -> None:
        """Our own signature proves it: what began before it was given may have lost something.

        `height` is our tip when we gave it, by our own word; without it all that lives is meant.
        """
        log.warning("this node has lost data: %s", why)
        with self.world.journal.database.transaction():
            tip = self.world.chain.tip().height if height is None else height
            self.world.journal.mark_lost(max(tip, self.world.journal.lost_at()))
        for role in (TRADER, ARBITER):
            for row in self.world.journal.rows(role):
                gone = isinstance(row.state, (*ENDED, Toxic)) and not isinstance(row.state, Aborted)
                if not gone and self._before(row, height):
                    self.trades.advance(row.trade_id, LoseTrust(why))

    def _before(self, row: Row, height: int | None) -> bool:
        """Tell whether a trade or case began, by our own first message, up to that tip of ours."""
        told = self.world.journal.messages(row.trade_id)
        first = next((m for m in told if m.sender == self.world.me), None)
        return height is None or first is None or first.tip_height <= height

    def _lost_data(self, trade_id: bytes, peer: bytes, proof: bytes) -> None:
        """A peer has another message of ours by that number: our signature proves it."""
        name = f"{peer.hex()[:16]}…"
        try:
            shown = Message.from_wire(proof, self.world.network)
        except InvalidRecord as error:
            self.trades.stall(trade_id, f"the peer {name} says that we lost data: {error}")
            return
        ours = (self.world.me, peer, trade_id) == (shown.sender, shown.recipient, shown.trade)
        if not ours or self.world.journal.known(shown.id):
            self.trades.stall(trade_id, f"the peer {name} says that we have lost data: not so")
            return
        why = f"the peer {name} has another message of ours by a number we use"
        row = self.world.journal.row(trade_id)
        if row is not None and isinstance(row.state, Toxic):
            self.trades.advance(trade_id, LoseTrust(why))  # even the fresh number was used before
        else:
            self._lost_before(why, shown.tip_height)

    def _refused(self, trade_id: bytes, peer: bytes, message_id: bytes, why: str) -> None:
        """Tell the user that a peer refuses our messages; a refused TAKE ends there."""
        if self.bargains.undelivered(trade_id, why):
            return
        self.trades.stall(trade_id, f"the peer {peer.hex()[:16]}… refused: {why}")
        row = self.world.journal.row(trade_id)
        if message_id == trade_id and row is not None and not isinstance(row.state, Aborted):
            self.trades.advance(
                trade_id, Cancel(wire.clipped(f"the maker refused: {why}", MAX_NOTE))
            )
