"""Receipts over the real transport: a thousand of them, a peer who knows no such protocol, a liar."""

from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from dht_kit import LISTEN
from receipt_kit import NET, Blocks, Deal
from trade_facts import identity

from dht.transport_libp2p import Libp2pStreams, open_streams
from escrow.receipt import MAX_BYTES
from escrow.shell_history import Introductions, pack_answer, pack_ask, read_answer
from escrow.shell_standing import Standing
from escrow.standing import MAX_SHOWN
from escrow.store_receipts import ReceiptStore
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.ports import Tip
from p2pnode.base.store import Database

OFFER = b"\x07" * 32
PROTOCOL = NET.protocol("history")


class Chain:
    """Our chain, with the tip that made-up blocks have."""

    def __init__(self, blocks: Blocks) -> None:
        self.block_hash, self.merkle_root = blocks.block_hash, blocks.merkle_root
        self.mtp, self._blocks = blocks.mtp, blocks

    def tip(self) -> Tip:
        height = self._blocks.tip
        return Tip(height, self.block_hash(height) or b"", self.mtp(height))


class Side:
    """One trader: his receipts, and the service over real streams."""

    def __init__(self, name: str, streams: Libp2pStreams, blocks: Blocks) -> None:
        self.id, self.streams = streams.node_id, streams
        self.chain: Any = Chain(blocks)
        self.store = ReceiptStore(Database(None))
        self.standing = Standing(self.store, self.chain, self.id)
        world: Any = SimpleNamespace(me=self.id, network=NET, clock=SystemClock(), chain=self.chain)
        self.peer: Side | None = None

        async def locate(_node_id: bytes) -> tuple[str, ...]:
            await trio.lowlevel.checkpoint()
            assert self.peer is not None
            return tuple(self.peer.streams.addrs())

        async def make() -> None:
            await trio.lowlevel.checkpoint()

        receipts: Any = SimpleNamespace(make=make, raw=self.store.own_raw)
        self.service = Introductions(
            *(world, streams, locate, receipts, self.standing),
            lambda _peer, offer_hash: offer_hash == OFFER,
        )

    def has(self, blocks: Blocks, name: str, count: int, height: int) -> None:
        """Give it so many receipts of its own, each in blocks of its own."""
        for n in range(count):
            receipt = Deal(blocks, name, f"p{n % 40}", height + 2 * n, n).receipt()
            self.store.keep_own(receipt.wire(), receipt.proven(self.chain))


@asynccontextmanager
async def town(own: int = 0, theirs: int = 0) -> Any:
    blocks = Blocks()
    async with (
        open_streams(identity("asker"), NET, listen=LISTEN) as one,
        open_streams(identity("asked"), NET, listen=LISTEN) as two,
    ):
        asker, asked = Side("asker", one, blocks), Side("asked", two, blocks)
        asker.peer, asked.peer = asked, asker
        asker.has(blocks, "asker", own, 3000)
        asked.has(blocks, "asked", theirs, 6000)
        asked.service.serve()
        with trio.fail_after(30):
            yield asker, asked


async def test_who_has_a_thousand_shows_sixty_four() -> None:
    async with town(own=1000, theirs=70) as (asker, asked):
        told = await asker.service.ask(asked.id, OFFER)
        assert told.count == len(told.proven) == MAX_SHOWN
        assert not told.faults
        assert len(asked.store.shown(asker.id)) == MAX_SHOWN
        assert asked.standing.history(asker.id).trades == MAX_SHOWN
        assert asked.standing.history(asker.id).partners == 40
        again = await asker.service.ask(asked.id, OFFER)
        assert again.proven == told.proven
        assert asked.service.tally["history_answered"] == 2


async def test_two_newcomers_have_nothing_to_show() -> None:
    async with town() as (asker, asked):
        assert (await asker.service.ask(asked.id, OFFER)).count == 0
        with pytest.raises(PeerFault, match="shown only to"):
            await asker.service.ask(asked.id)
        assert asked.service.tally["history_refused"] == 1
        assert asked.store.peers() == ()


async def test_a_peer_who_knows_no_such_protocol_is_unreachable() -> None:
    async with town(own=1) as (asker, asked):
        with pytest.raises(Unreachable):
            await asked.service.ask(asker.id, OFFER)  # he does not serve it
        await asked.service.meet(asker.id, OFFER)  # which stops no TAKE


@pytest.mark.parametrize("frame", [b"", b"\x00" * (MAX_BYTES + 1), b"\x93\x01\xc4\x00\x00"])
async def test_a_frame_out_of_bounds_ends_the_stream_alone(frame: bytes) -> None:
    async with town(theirs=1) as (asker, asked):
        channel = await asker.streams.open(
            asked.id, asked.streams.addrs(), PROTOCOL, limit=MAX_BYTES * 2
        )
        with pytest.raises((Unreachable, InvalidRecord)):
            await channel.send(frame)
            await channel.receive()
        assert (await asker.service.ask(asked.id, OFFER)).count == 1


async def test_a_liar_who_answers_is_a_fault_and_no_more() -> None:
    async with town(own=2, theirs=2) as (asker, asked):
        true = [asked.store.own_raw(p.trade_id) for p in asked.store.own()]
        stolen = asker.store.own_raw(asker.store.own()[0].trade_id)
        answers: list[list[bytes]] = [
            [pack_answer(0, "", 3), true[0], stolen, b"\x90"],
            [pack_answer(0, "", 65)],
            [pack_answer(1, "no\x1b[31m", 0)],
            [b"\x90"],
            [],
        ]
        got: list[bytes] = []

        async def lie(channel: Any) -> None:
            got.append(await channel.receive())
            for frame in answers.pop(0):
                await channel.send(frame)
            if len(got) == 1:
                for _ in range(2):
                    await channel.receive()
                await channel.send(pack_answer(0, "", 2))
            await channel.close()

        asked.streams.serve(PROTOCOL, lie, limit=MAX_BYTES)
        told = await asker.service.ask(asked.id, OFFER)
        assert got[0] == pack_ask(OFFER, 2)
        assert (told.count, len(told.proven)) == (3, 1)
        assert told.faults[0] == "receipt: is of two others: it is not his to show"
        assert len(asker.store.shown(asked.id)) == 1
        for error in (InvalidRecord, PeerFault, InvalidRecord, Unreachable):
            with pytest.raises(error) as caught:
                await asker.service.ask(asked.id, OFFER)
            assert "\x1b" not in str(caught.value)
        assert not answers


async def test_receipts_of_another_node_count_for_nobody() -> None:
    """The asker shows what the asked one could show himself."""
    async with town(own=1, theirs=1) as (asker, asked):
        mine = asked.store.own()[0]
        raw = asked.store.own_raw(mine.trade_id)
        asker.store.keep_own(raw, replace(mine, maker=asker.id))
        told = await asker.service.ask(asked.id, OFFER)
        assert len(told.proven) == 1
        assert len(asked.store.shown(asker.id)) == 1
        assert asked.service.tally["receipts_bad"] == 1
    assert read_answer(pack_answer(0, "x" * 500, 1))[1] == "x" * 200
