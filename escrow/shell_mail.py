"""Trades by mail: what waits for a peer who is away lies in the DHT until he has applied it.

    a visit failed ──▶ post: each waiting message is a letter, once, in the order of its chain
    every 5 minutes ─▶ collect: every living trade's and case's lines ──▶ Inbox ──▶ applied
    the journal says that the peer has it ──▶ seen, in the same transaction

The mailbox decides nothing: a letter passes the same checks as a frame on a stream, a message
that came both ways is known the second time, and a letter that is gone is not a receipt.
What must be answered within a minute goes by stream alone (docs/wire/mailbox.md).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import trio

from escrow.messages import Kind, Message
from escrow.model import Contracting, Drawing, Taking
from escrow.needs import Letter, Line, Mailbox
from escrow.shell_inbox import APPLIED, LATER, REFUSED, SHOW, Inbox, read_reply
from escrow.shell_trades import ENDED, Trades
from escrow.store_journal import ARBITER, TRADER
from p2pnode.base.errors import InvalidRecord, LocalFault, NodeError

log: Final = logging.getLogger(__name__)

COLLECT_S: Final = 300.0  # between two readings of everything
FIRST_COLLECT_S: Final = 20.0  # after a start, then doubled: the network is not known yet
LEAST_S: Final = 20.0  # from one reading to the next, however often our user looks
LINES_AT_ONCE: Final = 8  # so that a full line keeps few others waiting, and memory is bounded
ABANDON_S: Final = 14 * 86_400  # what waits in an ended trade is delivered so long

STREAM_ONLY: Final = frozenset(
    {
        *(Kind.PROPOSE, Kind.COUNTER, Kind.TAKE, Kind.DRAW, Kind.REVEAL, Kind.GET, Kind.PAGE),
        Kind.CONTRACT,
    }
)
FIRST_WORDS: Final = frozenset({Kind.DISPUTE, Kind.ENQUIRY})  # the peer may not know the trade
_UNSIGNED: Final = (Taking, Drawing, Contracting)  # no line is read before the contract is signed


def by_mail(kind: Kind, seq: int) -> bool:
    """Tell whether such a message may lie in a mailbox; a REFUSE of a TAKE may not."""
    return kind not in STREAM_ONLY and not (kind is Kind.REFUSE and seq == 0)


class Mail:
    """The trades' side of the mailbox."""

    def __init__(
        self, box: Mailbox, trades: Trades, inbox: Inbox, judges: Callable[[], bool]
    ) -> None:
        self._box = box
        self._trades = trades
        self._journal = trades.world.journal
        self._inbox = inbox
        self._judges = judges
        self._told: set[tuple[bytes, bytes, int]] = set()
        self._look = trio.Event()
        self._looked_at = -LEAST_S
        self.tally: Counter[str] = Counter()
        self._journal.settled = self._settled

    # -- out

    def post(self, peer: bytes) -> bool:
        """Have what waits for a peer lie in his mailbox; tell whether all of it does.

        A message that cannot go holds what its trade has for him behind it: he could not
        apply that before.
        """
        held: set[bytes] = set()
        with self._journal.database.transaction():
            for one in self._journal.waits_for(peer):
                if one.trade_id in held:
                    continue
                try:
                    if not self._goes(peer, one.trade_id, one.kind, one.seq):
                        held.add(one.trade_id)
                        continue
                    line = Line(peer, one.trade_id)
                    self._box.post(line, one.seq, one.raw, word=one.kind in FIRST_WORDS)
                except (LocalFault, InvalidRecord) as error:
                    held.add(one.trade_id)
                    self._waits(peer, one.trade_id, one.seq, str(error))
        return not held

    def _goes(self, peer: bytes, trade_id: bytes, kind: Kind, seq: int) -> bool:
        if self._journal.row(trade_id) is None:
            return False  # a negotiation
        if kind is Kind.ABORT and not self._journal.contracted(trade_id, peer):
            return False  # his own clock ends it within a minute
        return by_mail(kind, seq)

    def _waits(self, peer: bytes, trade_id: bytes, seq: int, why: str) -> None:
        """Tell the user, once, that a message waits for the peer himself."""
        if (peer, trade_id, seq) in self._told:
            return
        self._told.add((peer, trade_id, seq))
        self.tally["letters_waiting"] += 1
        name = peer.hex()[:16]
        self._trades.stall(trade_id, f"a message waits until the peer {name}… is online: {why}")

    def _settled(self, peer: bytes, trade_id: bytes, seq: int) -> None:
        way = (peer, trade_id)
        self._told = {t for t in self._told if t[:2] != way or t[2] > seq}
        self._box.seen(Line(peer, trade_id), seq)

    # -- in

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Collect until cancelled."""
        task_status.started()
        pause = FIRST_COLLECT_S
        while True:
            self._look = looked = trio.Event()
            try:
                self._abandon()
                await self.collect()
            except NodeError as error:
                log.warning("the mailbox was not read: %s", error)
            self._looked_at = trio.current_time()
            with trio.move_on_after(pause):
                await looked.wait()
            pause = min(2 * pause, COLLECT_S)

    def look(self) -> None:
        """Collect now, for our user is looking; not if that was just done."""
        if trio.current_time() >= self._looked_at + LEAST_S:
            self._look.set()

    async def collect(self) -> None:
        """Read every line that may hold something for us, and apply what is there."""
        lines = iter(self.lines())
        while some := tuple(islice(lines, LINES_AT_ONCE)):
            await self._take(some)
        if self._judges():
            await self._take((), words=True)

    def lines(self) -> list[Line]:
        """Return every line on which somebody may write to us in a trade or case that lives."""
        return [*self._trading(), *self._judging()]

    def _trading(self) -> Iterator[Line]:
        for row in self._journal.rows(TRADER):
            if isinstance(row.state, (*ENDED, *_UNSIGNED)):
                continue
            try:
                facts = self._trades.facts(row)
                contract = facts.settled_contract
            except NodeError as error:  # one damaged trade silences no other
                log.warning("no mail is read for trade %s: %s", row.trade_id.hex()[:16], error)
                continue
            if contract is not None:
                yield Line(facts.peer, row.trade_id, row.began)
                yield Line(contract.arbiter, row.trade_id, row.began)
                if contract.n:
                    yield Line(contract.runner_up, row.trade_id, row.began)

    def _judging(self) -> Iterator[Line]:
        for row in self._journal.rows(ARBITER):
            if isinstance(row.state, ENDED):
                continue
            try:
                contract = self._trades.case(row).contract
            except NodeError as error:
                log.warning("no mail is read for case %s: %s", row.trade_id.hex()[:16], error)
                continue
            people = (contract.buyer, contract.seller, contract.arbiter, contract.runner_up)
            for peer in people:
                if peer != self._trades.world.me:
                    yield Line(peer, row.trade_id)

    async def _take(self, lines: Sequence[Line], *, words: bool = False) -> None:
        """Read some lines and apply their letters, each line's in order up to a gap."""
        stuck: set[tuple[bytes, bytes]] = set()
        for letter in await self._box.collect(lines, words=words):
            way = (letter.line.peer, letter.line.trade_id)
            if way in stuck:
                continue
            status = await self._apply(letter)
            if status == LATER:
                stuck.add(way)
            else:
                self._box.applied(letter)

    async def _apply(self, letter: Letter) -> int:
        """Let the inbox judge one letter, if it is what may come this way. Returns its status."""
        line = letter.line
        try:
            self._check(letter)
        except InvalidRecord as error:
            log.warning("refused a letter from %s: %s", line.peer.hex()[:16], error)
            self.tally["letters_refused"] += 1
            return REFUSED
        status, _, _ = read_reply(await self._inbox.deliver(letter.payload, line.peer))
        if status == SHOW:  # only on a stream can he show what we have lost
            status = LATER
        if status == APPLIED:
            self.tally["letters_applied"] += 1
        elif status == LATER:
            self.tally["letters_not_yet"] += 1
        else:
            self.tally["letters_refused"] += 1
        return status

    def _check(self, letter: Letter) -> None:
        """Check that a letter may come by mail, on this line. Raises InvalidRecord."""
        message = Message.from_wire(letter.payload, self._trades.world.network)
        if message.trade != letter.line.trade_id:
            raise InvalidRecord("trade_id", "is of another trade than the letter's line")
        if not by_mail(message.kind, message.seq):
            raise InvalidRecord("kind", f"{message.kind.name} goes by stream alone")

    # -- ended trades

    def _abandon(self) -> None:
        """Deliver no more what has waited in vain since a trade ended."""
        names = [state.__name__ for state in ENDED]
        before = self._trades.world.clock.now() - ABANDON_S
        with self._journal.database.transaction():
            gone = self._journal.abandon(names, before)
        for one in gone:
            told = (one.count, one.trade_id.hex()[:16], one.peer.hex()[:16])
            log.info("%d messages of the ended trade %s are delivered to %s no more", *told)
