"""Delivery: every message of ours to every peer, in order, until he has applied it.

One task a peer with something waiting. A peer that is away is tried again with growing
pauses, and at once when he connects to us; meanwhile what can lies in his mailbox (`away`,
see `shell_mail`). Nothing is lost by a crash: the outbox is the journal. Replies: see
`shell_inbox`.
"""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from escrow.messages import FRAME_LIMIT
from escrow.shell_inbox import APPLIED, LATER, SHOW, USED, Inbox, read_reply
from escrow.store_journal import Journal
from p2pnode.base.errors import InvalidRecord, NodeError, StorageFault, Unreachable
from p2pnode.base.ports import Channel, Streams

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
AWAY_PAUSE_S: Final = 120.0  # when all of it lies in his mailbox, after so many tries:
PATIENT_TRIES: Final = 40  # ten minutes
REPLY_S: Final = 60.0
MAX_ASKED: Final = 16  # messages on their way to one peer
MAX_INBOUND: Final = 4  # trade streams of one peer at a time

Locate = Callable[[bytes], Awaitable[tuple[str, ...]]]
Refused = Callable[[bytes, bytes, bytes, str], None]  # trade id, peer, message id, text
Used = Callable[[bytes, bytes, bytes], None]  # trade id, peer, proof; inside the transaction
Away = Callable[[bytes], bool]  # the peer; returns whether all that waits is in his mailbox


class _Visit:
    """One stream to a peer, and what was said on it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sent: set[bytes] = set()  # ids of messages
        self.asked: deque[tuple[bytes, bytes]] = deque()  # (message id, trade id) unanswered
        self.shows: deque[tuple[bytes, bytes]] = deque()  # (trade id, a message of the peer's)
        self.held: set[bytes] = set()  # trades whose chain the peer did not take further
        self.news = trio.Event()  # something to send, or a reply
        self.progress = False
        self.again = False  # what is shown was shown on an earlier visit
        self.fault: NodeError | None = None


class Courier:
    """Carries messages both ways over the encrypted streams."""

    def __init__(
        self,
        streams: Streams,
        protocol: str,
        journal: Journal,
        inbox: Inbox,
        locate: Locate,
        refused: Refused,
        used: Used,
        away: Away | None = None,
    ) -> None:
        self._streams = streams
        self._protocol = protocol
        self._journal = journal
        self._inbox = inbox
        self._locate = locate
        self._refused = refused
        self._used = used
        self._away = away or (lambda _peer: False)
        self.tally: Counter[str] = Counter()
        self._shown: deque[bytes] = deque(maxlen=256)  # ids that led to a message being shown
        self._wake: dict[bytes, trio.Event] = {}
        self._visits: dict[bytes, _Visit] = {}
        self._inbound: dict[bytes, int] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve inbound streams and deliver until cancelled."""
        self._streams.serve(self._protocol, self._serve, limit=FRAME_LIMIT)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for peer in self._journal.recipients():
                    self.poke(peer)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # a stream may outlive us for a moment

    def poke(self, peer: bytes) -> None:
        """Deliver to this peer now: something waits for him, or he is there."""
        if self._nursery is None:
            return
        if peer in self._wake:
            self._wake[peer].set()
            if peer in self._visits:
                self._visits[peer].news.set()
            return
        self._wake[peer] = trio.Event()
        self._nursery.start_soon(self._carry, peer)

    async def _serve(self, channel: Channel) -> None:
        peer = channel.peer
        if self._inbound.get(peer, 0) >= MAX_INBOUND:
            return
        self._inbound[peer] = self._inbound.get(peer, 0) + 1
        try:
            while True:
                raw = await channel.receive()
                await channel.send(await self._inbox.deliver(raw, peer))
                if self._journal.outbox(peer):
                    self.poke(peer)
        except (Unreachable, InvalidRecord):
            return
        finally:
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]
            await channel.close()

    async def _carry(self, peer: bytes) -> None:
        """Deliver to one peer until nothing waits for him."""
        pause, tries = FIRST_PAUSE_S, 0
        try:
            while self._journal.outbox(peer):
                self._wake[peer] = woken = trio.Event()
                longest, tries = LONGEST_PAUSE_S, tries + 1
                try:
                    progress = await self._visit(peer)
                except NodeError as error:
                    log.info("cannot deliver to %s: %s", peer.hex()[:16], error)
                    progress = False
                    if self._posted(peer) and tries > PATIENT_TRIES:
                        longest = AWAY_PAUSE_S
                if progress:
                    pause, tries = FIRST_PAUSE_S, 0
                else:
                    pause = min(2 * pause, longest)
                if self._journal.outbox(peer):
                    with trio.move_on_after(pause):
                        await woken.wait()
        finally:
            del self._wake[peer]

    def _posted(self, peer: bytes) -> bool:
        """Leave what waits for a peer in his mailbox; tell whether all of it lies there."""
        try:
            return self._away(peer)
        except StorageFault as error:  # tried again with the next visit
            log.warning("nothing was posted to %s: %s", peer.hex()[:16], error)
            return False

    async def _visit(self, peer: bytes) -> bool:
        """Open a stream and deliver what waits; returns whether anything was applied.

        What comes while a reply is awaited is sent too: REVEAL and CONTRACT, or ten words of
        chat, take one round trip and not one each.
        """
        addrs = await self._locate(peer)
        channel = await self._streams.open(
            peer, addrs, self._protocol, limit=FRAME_LIMIT, early=True
        )
        visit = self._visits[peer] = _Visit(channel)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._say, peer, visit, nursery.cancel_scope)
                nursery.start_soon(self._hear, peer, visit, nursery.cancel_scope)
        finally:
            del self._visits[peer]
            await channel.close()
        if visit.fault:
            raise visit.fault
        return visit.progress

    async def _say(self, peer: bytes, visit: "_Visit", over: trio.CancelScope) -> None:
        """Send in order whatever waits and was not sent, until every reply is there."""
        try:
            while True:
                visit.news = trio.Event()
                for message_id, trade_id, raw in self._journal.outbox(peer):
                    if len(visit.asked) >= MAX_ASKED:
                        break
                    if message_id not in visit.sent and trade_id not in visit.held:
                        visit.sent.add(message_id)
                        visit.asked.append((message_id, trade_id))
                        await visit.channel.send(raw)
                while visit.shows:
                    trade_id, raw = visit.shows.popleft()
                    visit.asked.append((b"", trade_id))
                    await visit.channel.send(raw)
                if not visit.asked:
                    break
                await visit.news.wait()
        except NodeError as error:
            visit.fault = error
        over.cancel()

    async def _hear(self, peer: bytes, visit: "_Visit", over: trio.CancelScope) -> None:
        """Take the replies, which come in the order of the messages."""
        try:
            while True:
                answer = await _reply(visit.channel)
                if not visit.asked:
                    raise InvalidRecord("reply", "answers no message")
                self._answered(peer, visit, *answer)
                visit.news.set()  # there is room for another, or all is said
        except NodeError as error:
            visit.fault = error
        over.cancel()

    def _answered(self, peer: bytes, visit: "_Visit", status: int, text: str, proof: bytes) -> None:
        message_id, trade_id = visit.asked.popleft()
        if not message_id:  # what we showed him: the message that led to it goes out anew
            visit.progress |= status == APPLIED and not visit.again
            return
        late = trade_id in visit.held  # sent before its predecessor failed: its reply says nothing
        if status != APPLIED:
            visit.held.add(trade_id)  # its chain waits for an earlier message
        if status == SHOW and not late:
            self._show(visit, message_id, trade_id, text)
        elif status in {LATER, SHOW}:
            self.tally["messages_not_yet"] += 1
            log.info("%s says not yet: %s", peer.hex()[:16], text)
        elif status == APPLIED or not late:
            self._settle(peer, message_id, trade_id, status, text, proof)
            visit.progress = True

    def _show(self, visit: "_Visit", message_id: bytes, trade_id: bytes, text: str) -> None:
        """He does not know a message of his that we have applied: show it to him."""
        self.tally["messages_not_yet"] += 1
        log.info("asked to show what we have seen: %s", text)
        raw = self._journal.seen_by(message_id)
        if raw:
            visit.shows.append((trade_id, raw))
            visit.again |= message_id in self._shown  # to show it once is progress, not more
            self._shown.append(message_id)

    def _settle(
        self,
        peer: bytes,
        message_id: bytes,
        trade_id: bytes,
        status: int,
        text: str,
        proof: bytes,
    ) -> None:
        with self._journal.database.transaction():
            if status == APPLIED:
                self._journal.delivered(message_id)
            else:
                self._journal.drop_outbox(trade_id, peer)
            if status == USED:
                self._used(trade_id, peer, proof)
        if status == APPLIED:
            self.tally["messages_delivered"] += 1
            return
        self.tally["messages_refused"] += 1
        log.warning("%s refused a message: %s", peer.hex()[:16], text)
        if status != USED:
            self._refused(trade_id, peer, message_id, text)


async def _reply(channel: Channel) -> tuple[int, str, bytes]:
    with trio.move_on_after(REPLY_S):
        return read_reply(await channel.receive())
    raise Unreachable("the peer did not answer in time")
