"""Receipts between whole nodes on a real chain: honest ones, stolen, bent, reorganised away.

What a node says of another's past is what receipts prove on its own chain; what weighs nothing
is named. A trade never waits for it.
"""

import pytest
import trio
from orderbook_kit import Market
from receipt_steps import aged, closed, proven, traded
from trade_fakes import disclose
from trade_kit import Rig, rig
from trade_post import NET, connect

from escrow import shell_history
from escrow.messages import ZERO
from escrow.model import Aborted, Broadcast, Decide, Disputed, Hearing, Ruled
from escrow.receipt import MAX_BYTES, Receipt
from escrow.shell_history import MAX_FAULTS, PER_PEER, pack_ask, read_answer
from escrow.terms import Terms
from orderbook.offer import Side
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from p2pnode.app.desk import OfferDesk, terms_of
from p2pnode.base import wire
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.history import NONE, History
from p2pnode.base.networks import NETWORKS

PROTOCOL = NET.protocol("history")


def history(r: Rig, of: str, by: str) -> History:
    return r[by].exchange.standing.history(r[of].id)


def reasons(r: Rig, of: str, by: str) -> list[str]:
    return [w.why for w in r[by].exchange.standing.weighed(r[of].id)]


async def ask(r: Rig, by: str, of: str, offer_hash: bytes = ZERO) -> object:
    await r.synced()
    return await r[by].exchange.introductions.ask(r[of].id, offer_hash)


# ------------------------------------------------------------------ honest


async def test_a_taker_is_known_to_the_maker_before_his_take_is_judged() -> None:
    async with rig(strangers=("other",)) as r:
        first = await traded(r, "other", "taker")
        assert history(r, "taker", "taker") == NONE  # `other` is not 30 days old
        await aged(r)
        at = r["taker"].chain.mtp((await proven(r, "taker", first)).funding.height)
        assert history(r, "taker", "taker") == History(1, 1, at)
        assert history(r, "taker", "maker") == NONE
        judged: list[History] = []
        desk = r["maker"].desk
        told, standing = desk.terms, r["maker"].exchange.standing

        def terms(offer_hash: bytes, method: str, peer: bytes) -> object:
            judged.append(standing.history(peer))
            return told(offer_hash, method, peer)

        desk.terms = terms  # type: ignore[method-assign,assignment]
        await traded(r)
        assert judged
        assert judged[0] == History(1, 1, at)
        days = judged[0].days(r["maker"].chain.tip().mtp)
        assert days >= 30
        assert judged[0].days(1 << 40) == days, "a clock beyond the chain's makes nobody older"
        # What we have seen ourselves weighs at once, for both.
        assert history(r, "taker", "maker").trades == 2
        assert history(r, "maker", "taker").trades == 1
        # Of himself he says what a stranger finds who is shown his receipts alone.
        assert history(r, "maker", "maker") == NONE


async def test_a_verdict_speaks_for_the_buyer_alone() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        await r.dispute("taker", trade_id, "I have paid")
        await r.both(trade_id, Disputed)
        await r.answer("maker", trade_id)
        arbiter = r.arbiter(trade_id)
        await r.until(arbiter, trade_id, Hearing)
        contract = r["maker"].facts(trade_id).contract
        await r.act(arbiter, trade_id, Decide(contract.amount_sat + contract.dep_b, "it is so"))
        await r.until("taker", trade_id, Ruled)
        await closed(r, trade_id, "maker", "taker")
        for name in ("maker", "taker"):
            receipt = await proven(r, name, trade_id)
            shown = receipt.proven(r[name].chain)
            assert shown.outcome == "ruled"
            assert shown.credits(contract.buyer)
            assert not shown.credits(contract.seller)
        assert history(r, "taker", "maker").trades == 1
        assert history(r, "maker", "taker") == NONE
        assert reasons(r, "maker", "taker") == ["ended by a verdict that was not for him"]


async def test_receipts_are_made_at_the_start_for_what_closed_before() -> None:
    async with rig() as r:
        trade_id = await traded(r)
        before = r["taker"].exchange.receipts.raw(trade_id)
        r["taker"].database.run("DELETE FROM receipt_own")
        await r.restart("taker")
        await r.synced()
        assert (await proven(r, "taker", trade_id)).wire() == before
        await r.restart("taker")
        assert r["taker"].exchange.receipts.raw(trade_id) == before  # kept


# ------------------------------------------------------------------ who is answered


async def test_receipts_are_shown_to_who_names_an_offer_or_trades_with_us() -> None:
    async with rig(strangers=("stranger",)) as r:
        await traded(r)
        terms = r.offer()
        with pytest.raises(PeerFault, match="shown only to who names a current offer"):
            await ask(r, "stranger", "maker")
        with pytest.raises(PeerFault, match="shown only to"):
            await ask(r, "stranger", "maker", bytes(31) + b"\1")
        with pytest.raises(PeerFault, match="shown only to"):
            await ask(r, "taker", "maker")  # their trade is over
        assert r["stranger"].exchange.standing.store.shown(r["maker"].id) == ()
        await ask(r, "stranger", "maker", terms.offer_hash)
        assert len(r["stranger"].exchange.standing.store.shown(r["maker"].id)) == 1
        trade_id = await r.take(terms)
        await r.published(trade_id)
        await ask(r, "maker", "taker")  # a trade lives
        assert r["maker"].exchange.standing.store.shown(r["taker"].id)


async def test_asking_is_limited_by_peer() -> None:
    async with rig() as r:
        terms = r.offer()
        for _ in range(PER_PEER):
            await ask(r, "taker", "maker", terms.offer_hash)
        with pytest.raises(PeerFault, match="asked too often"):
            await ask(r, "taker", "maker", terms.offer_hash)
        await r.take(terms)  # and a TAKE does not need it
        r.clock.time += 601
        await ask(r, "taker", "maker", terms.offer_hash)


async def test_who_has_only_looked_may_still_show_his_own() -> None:
    async with rig() as r:
        await traded(r)
        terms, introductions = r.offer(), r["taker"].exchange.introductions
        r.clock.time += 601  # before his first TAKE he had none to show
        await r.synced()
        for _ in range(PER_PEER):
            await introductions.ask(r["maker"].id, terms.offer_hash, show=False)
        assert r["maker"].exchange.standing.store.shown(r["taker"].id) == ()
        with pytest.raises(PeerFault, match="asked too often"):
            await introductions.ask(r["maker"].id, terms.offer_hash, show=False)
        await introductions.ask(r["maker"].id, terms.offer_hash)
        assert len(r["maker"].exchange.standing.store.shown(r["taker"].id)) == 1


async def test_a_take_does_not_wait_for_a_maker_who_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell_history, "MEET_S", 0.2)
    async with rig() as r:
        hung = trio.Event()

        async def deaf(_channel: object) -> None:
            hung.set()
            await trio.sleep_forever()

        r.post.others[r["maker"].id, PROTOCOL] = deaf
        with trio.fail_after(r.patience):
            trade_id = await r.take()
        assert hung.is_set()
        assert any("no answer in" in line for line in r.log)
        await r.published(trade_id)


# ------------------------------------------------------------------ thieves


async def show(r: Rig, thief: str, to: str, raws: list[bytes], offer_hash: bytes) -> int:
    """Show bytes as `thief`; returns how many of them the other believes."""
    pipe = connect(r.post, r[thief].id, r[to].id, PROTOCOL)
    try:
        with trio.fail_after(r.patience):
            await pipe.send(pack_ask(offer_hash, len(raws)))
            _, _, count = read_answer(await pipe.receive())
            for _ in range(count):
                await pipe.receive()
            for raw in raws:
                await pipe.send(raw)
            return read_answer(await pipe.receive())[2]
    finally:
        await pipe.close()


async def test_a_stolen_receipt_weighs_nothing() -> None:
    async with rig(strangers=("thief",)) as r:
        trade_id = await traded(r)
        await aged(r)
        terms = r.offer()
        raw = r["taker"].exchange.receipts.raw(trade_id)
        assert await show(r, "thief", "maker", [raw], terms.offer_hash) == 0
        assert history(r, "thief", "maker") == NONE
        assert any("it is not his to show" in line for line in r.log)
        assert await show(r, "taker", "maker", [raw] * 64, terms.offer_hash) == 1
        assert history(r, "taker", "maker").trades == 1


async def test_bent_receipts_stop_being_looked_at() -> None:
    async with rig(strangers=("other",)) as r:
        trade_id = await traded(r, "other", "taker")
        await aged(r)
        raw = r["taker"].exchange.receipts.raw(trade_id)
        whole = wire.unpack("receipt", raw, limit=MAX_BYTES)
        bent = [wire.pack((*whole[:at], _bent(whole[at]), *whole[at + 1 :])) for at in range(2, 8)]
        terms = r.offer()
        assert len(bent) > MAX_FAULTS
        assert await show(r, "taker", "maker", [*bent, raw], terms.offer_hash) == 0
        for one in bent:
            assert await show(r, "taker", "maker", [one], terms.offer_hash) == 0
            r.clock.time += 601
        assert history(r, "taker", "maker") == NONE
        assert await show(r, "taker", "maker", [bent[0], raw], terms.offer_hash) == 1
        assert history(r, "taker", "maker").trades == 1


def _bent(part: object) -> object:
    if isinstance(part, bytes):
        return part[:-1] + bytes([part[-1] ^ 1])
    assert isinstance(part, tuple)
    if isinstance(part[-1], bytes):
        return (*part[:-1], part[-1][:-1] + bytes([part[-1][-1] ^ 1]))
    return (*part[:-1], (*part[-1], bytes(32)))


async def test_receipts_of_two_trades_cannot_be_spliced() -> None:
    async with rig(sats=(3_000_000, 3_000_000)) as r:
        first, second = await traded(r), await traded(r)
        one, two = (
            wire.unpack("receipt", r["taker"].exchange.receipts.raw(t), limit=MAX_BYTES)
            for t in (first, second)
        )
        terms = r.offer()
        for at in range(2, 8):
            spliced = wire.pack((*one[:at], two[at], *one[at + 1 :]))
            assert await show(r, "taker", "maker", [spliced], terms.offer_hash) == 0
            r.clock.time += 601
        both = [wire.pack(one), wire.pack(two)]
        assert await show(r, "taker", "maker", both, terms.offer_hash) == 2


async def test_frames_that_are_too_long_or_too_many_end_the_stream() -> None:
    async with rig() as r:
        terms = r.offer()
        for raws in ([bytes(MAX_BYTES + 1)], [b"\x90"]):
            assert await show(r, "taker", "maker", raws, terms.offer_hash) == 0
        for opening in (
            pack_ask(terms.offer_hash, 65),
            pack_ask(terms.offer_hash, -1),
            pack_ask(b"", 0),
            b"",
            b"\x93\x02",
        ):
            pipe = connect(r.post, r["taker"].id, r["maker"].id, PROTOCOL)
            with trio.fail_after(r.patience):
                await pipe.send(opening)
                with pytest.raises(Unreachable):
                    await pipe.receive()
        await ask(r, "taker", "maker", terms.offer_hash)  # the node lives


async def test_a_reorganised_trade_is_no_past_until_it_is_there_again() -> None:
    async with rig(strangers=("other",)) as r:
        trade_id = await traded(r, "other", "taker")
        before = await proven(r, "taker", trade_id)
        r.mine(1)
        terms = r.offer()
        await ask(r, "taker", "maker", terms.offer_hash)
        assert len(r["maker"].exchange.standing.weighed(r["taker"].id)) == 1
        r.reorg(7, drop=[before.payout_txid])
        await r.synced()
        assert r["maker"].exchange.standing.weighed(r["taker"].id) == ()
        assert r["taker"].exchange.standing.own() == ()
        with pytest.raises(InvalidRecord):
            before.proven(r["maker"].chain)

        async def again() -> None:
            assert before.payout_txid in r.mempool()

        await r.eventually(again)  # its traders give it back to the network
        r.mine(6)
        await r.synced()
        after = await proven(r, "taker", trade_id)
        assert after.payout.height > before.payout.height
        await ask(r, "taker", "maker", terms.offer_hash)
        assert len(r["maker"].exchange.standing.weighed(r["taker"].id)) == 1


async def test_a_receipt_of_another_network_is_none() -> None:
    async with rig() as r:
        trade_id = await traded(r)
        raw = r["taker"].exchange.receipts.raw(trade_id)
        for other in ("regtest", "main"):
            with pytest.raises(InvalidRecord, match="network: is not"):
                Receipt.from_wire(raw, NETWORKS[other])
        lines = wire.unpack("receipt", raw, limit=MAX_BYTES)
        renamed = wire.pack((lines[0], "regtest", *lines[2:]))
        with pytest.raises(InvalidRecord, match="network: is not regtest"):
            Receipt.from_wire(renamed, NETWORKS["regtest"])


async def test_a_ring_of_self_trades_weighs_nothing() -> None:
    """Two names of one thief, thirty days old; both show what they did with each other."""
    async with rig(strangers=("one", "two", "victim")) as r:
        await traded(r, "one", "two")
        await aged(r)
        terms = r.offer(maker="victim")
        await ask(r, "one", "victim", terms.offer_hash)
        assert history(r, "one", "victim").trades == 1  # the price: two transactions and 30 days
        await ask(r, "two", "victim", terms.offer_hash)
        for name in ("one", "two"):
            assert history(r, name, "victim") == NONE
            assert reasons(r, name, "victim") == ["is of a closed ring: nobody outside it is named"]
        # A trade with ourselves lets them out: what that proves we have seen.
        await traded(r, "victim", "one")
        assert history(r, "one", "victim").trades == 2


# ------------------------------------------------------------------ what follows from it


async def opened(r: Rig, **terms: object) -> Terms:
    """Let the maker's node judge by his real order book, and open an offer of his there."""
    node = r["maker"]
    maker = Maker(
        *(node.identity, NET, r.clock, SystemRandomness(), node.database, Market()),
        histories=node.exchange.standing,
    )
    accounts = AccountStore(node.database, NET, b"k" * 32, SystemRandomness())
    account = accounts.add("free", "CUSTOM", {"details": "by arrangement"}, now=r.clock.now())
    node.exchange.world.desk = OfferDesk(maker, accounts, NET)
    own = await maker.create(
        side=Side.SELL,
        currency="EUR",
        min_sat=200_000,
        max_sat=1_000_000,
        price=60_000 * 10**6,
        accounts={"CUSTOM": account.account_id(NET)},
        **terms,
    )
    return terms_of(own.current, "CUSTOM", own.current.price)


async def test_who_has_not_proven_the_history_that_is_asked_for_is_refused() -> None:
    async with rig(strangers=("other", "newcomer"), sats=(3_000_000, 3_000_000)) as r:
        await traded(r, "other", "taker")
        await aged(r)
        r.clock.time = max(r.clock.time, r["maker"].chain.tip().mtp)
        terms = await opened(r, peer_trades=1, peer_days=30)
        for name in ("newcomer", "taker"):
            account = disclose(name, SystemRandomness().bytes(32))
            trade_id = await r[name].exchange.opening.take(terms, 500_000, account)
            if name == "newcomer":
                state = await r.until(name, trade_id, Aborted)
                assert isinstance(state, Aborted)
                assert "peer_trades" in state.reason, state.reason
                assert "0 as far as is proven; 1 are asked for" in state.reason
            else:
                await r.until(name, trade_id, Broadcast)
