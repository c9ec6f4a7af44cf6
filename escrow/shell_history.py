"""`/p2pnode/<network>/history/1`: two traders show each other their receipts.

    asker                                   asked
    ask [1, offer_hash or zeros, count] ──▶
            ◀── answer [status, text, count]        0 here they are, 1 refused
            ◀── receipts, one a frame
    receipts, one a frame ──▶
            ◀── answer [0, "", how many of them are proven]

Answered to who names a current offer of ours, or trades or negotiates with us; so many times in
ten minutes. A receipt is judged the cheapest check first, and after MAX_FAULTS that are no good
the rest is not looked at; the same bytes again cost a hash. Whoever is not one of its two
traders has stolen it. docs/wire/receipts.md.
"""

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from escrow.messages import ZERO
from escrow.proven import Proven
from escrow.receipt import MAX_BYTES, Receipt
from escrow.shell_desktop import Desktop
from escrow.shell_receipts import Receipts
from escrow.shell_standing import Standing
from escrow.standing import MAX_SHOWN, selection
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, Unreachable
from p2pnode.base.ports import Channel, Streams

log: Final = logging.getLogger(__name__)

VERSION: Final = 1
SHOWN: Final = 0
REFUSED: Final = 1
DEADLINE_S: Final = 30.0  # of a whole exchange, on either side
MEET_S: Final = 10.0  # how long a TAKE waits for it
AGAIN_S: Final = 120  # so long a peer is taken to know ours, and we his, where nothing is new
MAX_MET: Final = 1000
WINDOW_S: Final = 600
PER_PEER: Final = 6  # exchanges in a window
PER_SUBNET: Final = 60  # else a few names on one machine would be answered and nobody else
IN_ALL: Final = 1000
MAX_FAULTS: Final = 4
MAX_TEXT: Final = 200

Acquainted = Callable[[bytes, bytes], bool]  # the peer, the offer that he names


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer has shown: how many, which hold, and what is wrong with the others."""

    count: int
    proven: tuple[tuple[bytes, Proven], ...]  # with the hash of the bytes
    faults: tuple[str, ...]


def pack_ask(offer_hash: bytes, count: int) -> bytes:
    """Return the frame that opens an exchange."""
    return wire.pack((VERSION, offer_hash, count))


def read_ask(raw: bytes) -> tuple[bytes, int]:
    """Return the offer's hash and how many receipts follow. Raises InvalidRecord."""
    version, offer_hash, count = wire.fields("ask", wire.unpack("ask", raw, limit=64), 3)
    wire.within("version", version, VERSION, VERSION)
    return wire.exact("offer_hash", offer_hash, 32), wire.within("count", count, 0, MAX_SHOWN)


def pack_answer(status: int, text: str, count: int) -> bytes:
    """Return an answer's frame."""
    return wire.pack((status, wire.clipped(text, MAX_TEXT), count))


def read_answer(raw: bytes) -> tuple[int, str, int]:
    """Return status, text and count. Raises InvalidRecord."""
    status, text, count = wire.fields("answer", wire.unpack("answer", raw, limit=512), 3)
    wire.within("status", status, SHOWN, REFUSED)
    return status, wire.text("text", text, MAX_TEXT), wire.within("count", count, 0, MAX_SHOWN)


class Introductions:
    """Shows our receipts to counterparties and judges theirs."""

    def __init__(
        self,
        world: Desktop,
        streams: Streams,
        locate: Callable[[bytes], Awaitable[tuple[str, ...]]],
        receipts: Receipts,
        standing: Standing,
        acquainted: Acquainted,
    ) -> None:
        self._world, self._streams, self._locate = world, streams, locate
        self._receipts, self._standing = receipts, standing
        self._acquainted = acquainted
        self._protocol = world.network.protocol("history")
        # When, by whom and whether he shows some: who has only looked may still show his.
        self._asked: deque[tuple[int, bytes, bool, str | None]] = deque(maxlen=IN_ALL)
        self.group: Callable[[str], str | None] = lambda _host: None  # a host's subnet
        self._met: dict[bytes, tuple[int, int]] = {}  # by peer: when, and how many own we had
        self.tally: Counter[str] = Counter()

    def serve(self) -> None:
        """Answer from now on."""
        self._streams.serve(self._protocol, self._serve, limit=MAX_BYTES)

    # -- asking

    async def meet(self, peer: bytes, offer_hash: bytes, *, show: bool = True) -> None:
        """Show ours and see his, for a TAKE: what goes wrong means that nothing is proven.

        Without `show` his alone are asked for: whoever only looks tells nobody his past.
        """
        when, count = self._met.get(peer, (0, 0))
        new = len(self._standing.store.own()) != count
        if not new and 0 <= self._world.clock.now() - when < AGAIN_S:
            return
        with trio.move_on_after(MEET_S) as scope:
            try:
                await self.ask(peer, offer_hash, show=show)
            except NodeError as error:
                log.info("no history of %s…: %s", peer.hex()[:16], error)
        if scope.cancelled_caught:
            log.info("no history of %s…: no answer in %.1f s", peer.hex()[:16], MEET_S)

    async def ask(self, peer: bytes, offer_hash: bytes = ZERO, *, show: bool = True) -> Told:
        """Exchange receipts with a peer; keeps what is proven of his. Ours go only with `show`.

        Raises Unreachable, PeerFault for a refusal, InvalidRecord for a broken protocol.
        """
        self.tally["history_asked"] += 1
        with trio.move_on_after(DEADLINE_S):
            addrs = await self._locate(peer)
            channel = await self._streams.open(
                peer, addrs, self._protocol, limit=MAX_BYTES, early=True
            )
            try:
                told, lacks = await self._exchange(channel, offer_hash, show=show)
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(1):
                    await channel.close()
            if show and not lacks:  # else he may believe them in a block or two
                if len(self._met) >= MAX_MET:
                    self._met.clear()
                self._met[peer] = (self._world.clock.now(), len(self._standing.store.own()))
            return told
        raise Unreachable(f"no history came in {DEADLINE_S:.0f} s")

    async def _exchange(
        self, channel: Channel, offer_hash: bytes, *, show: bool
    ) -> tuple[Told, int]:
        """Return what he has shown, and how many of ours are not proven to him."""
        ours = await self._ours() if show else []
        await channel.send(pack_ask(offer_hash, len(ours)))
        status, text, count = read_answer(await channel.receive())
        if status != SHOWN:
            raise PeerFault(f"the peer does not show his receipts: {text}")
        told = await self._judged(channel, count)
        for raw in ours:
            await channel.send(raw)
        _, _, believed = read_answer(await channel.receive())
        log.info("%d of our %d receipts are proven to the peer", believed, len(ours))
        return told, len(ours) - believed

    # -- answering

    async def _serve(self, channel: Channel) -> None:
        try:
            with trio.move_on_after(DEADLINE_S):
                await self._answer(channel)
        except NodeError as error:
            log.info("no exchange with %s…: %s", channel.peer.hex()[:16], error)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await channel.close()

    async def _answer(self, channel: Channel) -> None:
        offer_hash, count = read_ask(await channel.receive())
        if why := self._refusal(channel, offer_hash, shows=count > 0):
            self.tally["history_refused"] += 1
            await channel.send(pack_answer(REFUSED, why, 0))
            return
        ours = await self._ours()
        await channel.send(pack_answer(SHOWN, "", len(ours)))
        for raw in ours:
            await channel.send(raw)
        told = await self._judged(channel, count)
        await channel.send(pack_answer(SHOWN, "", len(told.proven)))
        self.tally["history_answered"] += 1

    def _refusal(self, channel: Channel, offer_hash: bytes, *, shows: bool) -> str:
        """Return why a peer gets no answer, or nothing; counts what he asks."""
        now, peer, crowd = self._world.clock.now(), channel.peer, self.group(channel.host)
        while self._asked and self._asked[0][0] <= now - WINDOW_S:
            self._asked.popleft()
        before = sum((who, had) == (peer, shows) for _, who, had, _ in self._asked)
        near = sum(one == crowd for *_, one in self._asked) if crowd else 0
        if len(self._asked) >= IN_ALL or before >= PER_PEER or near >= PER_SUBNET:
            return "asked too often: try again in ten minutes"
        if not self._acquainted(peer, offer_hash):
            return "shown only to who names a current offer of this node or trades with it"
        self._asked.append((now, peer, shows, crowd))
        return ""

    # -- both

    async def _ours(self) -> list[bytes]:
        """Return the receipts to show, none without a chain."""
        try:
            await self._receipts.make()
            chosen = selection(self._world.me, self._standing.own())
        except NodeError as error:
            log.info("our receipts are not shown: %s", error)
            return []
        return [raw for p in chosen if (raw := self._receipts.raw(p.trade_id))]

    async def _judged(self, channel: Channel, count: int) -> Told:
        """Judge so many receipts as they come, and keep what holds. Raises what stops it."""
        peer = channel.peer
        found: dict[bytes, tuple[bytes, Proven]] = {}
        faults: list[str] = []
        for _ in range(count):
            raw = await channel.receive()
            if len(faults) >= MAX_FAULTS:
                continue
            try:
                hashed, proven = self._judge(peer, raw)
                found.setdefault(proven.trade_id, (hashed, proven))
            except InvalidRecord as error:
                faults.append(str(error))
            await trio.lowlevel.checkpoint()
        self._standing.store.keep(peer, found.values(), self._world.clock.now())
        self.tally["receipts_proven"] += len(found)
        self.tally["receipts_bad"] += len(faults)
        if faults:
            log.warning("receipts of %s… that prove nothing: %s", peer.hex()[:16], faults[0])
        return Told(count, tuple(found.values()), tuple(faults))

    def _judge(self, peer: bytes, raw: bytes) -> tuple[bytes, Proven]:
        hashed = hashlib.sha256(raw).digest()
        known = self._standing.store.by_hash(peer, hashed)
        if known is not None and known.stands(self._world.chain):
            return hashed, known
        receipt = Receipt.decoded(raw, self._world.network)
        if peer not in receipt.parties:
            raise InvalidRecord("receipt", "is of two others: it is not his to show")
        return hashed, receipt.proven(self._world.chain)
