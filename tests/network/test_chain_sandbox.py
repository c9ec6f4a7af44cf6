"""The chain's view through a real socket: blocks, payments, reorgs, reconnects, several waiters."""

import json
from typing import Any

import pytest
import trio
from chain_kit import NET, OTHER, PATIENCE, SCRIPT, Rig, double_spend, eventually, rig

from escrow.backend_electrum import ElectrumChain
from p2pnode.app.sandbox.server import ElectrumServer
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, Unreachable
from p2pnode.base.transaction import parse_transaction, root_from_branch, scripthash


def same_tip(r: Rig, chain: ElectrumChain | None = None) -> None:
    tip = (chain or r.chain).tip()
    assert (tip.height, tip.hash) == (r.box.height, r.box.chain.tip)
    assert tip.mtp == r.box.chain.index.mtp(r.box.height)


async def caught_up(r: Rig) -> None:
    async def check() -> None:
        same_tip(r)

    await eventually(check)


async def test_headers_follow_mining() -> None:
    async with rig() as r:
        same_tip(r)
        r.mine(3)
        await caught_up(r)
        for height in (0, 1, r.box.height):
            header = r.box.chain.index.headers[height]
            assert r.chain.block_hash(height) == header.hash
            assert r.chain.merkle_root(height) == header.merkle_root
        assert r.chain.block_hash(r.box.height + 1) is None
        assert r.chain.merkle_root(r.box.height + 1) is None
        with pytest.raises(Unreachable):
            r.chain.mtp(r.box.height + 1)


async def test_more_headers_than_one_answer_holds() -> None:
    async with rig() as r:
        for _ in range(2):
            r.box.mine(1000)
        late = r.client()
        await r.nursery.start(late.run)
        same_tip(r, late)


async def test_a_payment_is_seen_confirmed_and_proven() -> None:
    async with rig() as r:
        await r.chain.watch(SCRIPT)
        assert await r.chain.sightings(SCRIPT) == ()
        tx = r.fund(SCRIPT, 50_000)
        await r.depth(SCRIPT, 0)
        r.mine()
        await r.depth(SCRIPT, r.box.height)
        (seen,) = await r.chain.sightings(SCRIPT)
        assert (seen.txid, seen.raw) == (tx.txid, tx.serialize())
        branch, position = await r.chain.proof(tx.txid, seen.height)
        assert root_from_branch(tx.txid, branch, position) == r.chain.merkle_root(seen.height)
        assert await r.chain.transaction(tx.txid) == tx.serialize()


async def test_a_view_that_holds_is_not_asked_for_again() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        r.mine()
        await r.depth(SCRIPT, r.box.height)
        before = len(r.relay.asked)
        for _ in range(5):
            await r.chain.sightings(SCRIPT)
        assert len(r.relay.asked) == before


async def test_a_reorg_takes_a_payment_back_and_another_block_confirms_it_again() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        r.mine(2)
        await r.depth(SCRIPT, r.box.height - 1)
        r.reorg(2)
        await r.depth(SCRIPT, 0)
        await caught_up(r)
        r.mine()
        await r.depth(SCRIPT, r.box.height)


async def test_a_reorg_that_confirms_it_at_the_same_height_needs_a_new_proof() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)
        r.mine()
        height = r.box.height
        await r.depth(SCRIPT, height)
        old = await r.chain.proof(tx.txid, height)
        r.reorg(1, txs=[tx.serialize()])
        await caught_up(r)
        r.relay.asked.clear()
        await r.depth(SCRIPT, height)
        assert "blockchain.transaction.get_merkle" in r.relay.asked  # the old proof is void
        branch, position = await r.chain.proof(tx.txid, height)
        assert (branch, position) != old
        assert root_from_branch(tx.txid, branch, position) == r.chain.merkle_root(height)


async def test_a_double_spend_by_reorg_leaves_nothing_of_the_payment() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)
        r.mine(2)
        await r.depth(SCRIPT, r.box.height - 1)
        r.reorg(2, txs=[double_spend(tx, OTHER)])
        await r.depth(OTHER, r.box.height - 2)
        await caught_up(r)
        assert await r.chain.sightings(SCRIPT) == ()
        with pytest.raises(LocalFault, match="missingorspent"):
            await r.chain.broadcast(tx.serialize())


async def test_every_waiter_wakes_and_none_misses_what_came_before_it_waited() -> None:
    async with rig() as r:
        woken: list[int] = []
        waiting = [trio.Event() for _ in range(3)]

        async def waiter(number: int) -> None:
            await r.chain.changed()  # the first call tells of all that came before
            waiting[number].set()
            await r.chain.changed()
            woken.append(number)
            while r.chain.tip().height < height + 2:  # the second block came while we were busy
                await r.chain.changed()
            woken.append(number)

        height = r.box.height
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(waiter, number)
                for event in waiting:
                    await event.wait()
                assert not woken
                r.mine()
                r.mine()
        assert sorted(woken) == [0, 0, 1, 1, 2, 2]


async def test_a_change_between_two_calls_is_not_lost() -> None:
    async with rig() as r:
        with trio.fail_after(PATIENCE):
            await r.chain.changed()
            height = r.box.height
            r.mine()

            async def seen() -> None:
                assert r.chain.tip().height == height + 1

            await eventually(seen)  # the change has come and gone before we ask
            await r.chain.changed()
        with trio.move_on_after(0.05) as quiet:
            await r.chain.changed()
        assert quiet.cancelled_caught  # and it is told once


async def test_after_a_server_restart_everything_is_watched_again() -> None:
    async with rig() as r:
        await r.chain.watch(SCRIPT)
        async with trio.open_nursery() as lifetime:
            server = ElectrumServer(r.box)
            r.relay.target = await lifetime.start(server.serve, 0)
            chain = r.client()
            await r.nursery.start(chain.run)
            await chain.watch(SCRIPT)
            assert chain.connected
            lifetime.cancel_scope.cancel()

        async def away() -> None:
            assert not chain.connected
            with pytest.raises(Unreachable):
                await chain.sightings(SCRIPT)
            with pytest.raises(Unreachable):
                await chain.fee_rate(3)

        await eventually(away)
        assert chain.tip().height == r.box.height  # the last one seen
        await chain.watch(OTHER)  # remembered until there is a server
        tx = r.box.fund(SCRIPT, 40_000)
        r.box.fund(OTHER, 40_000)
        r.box.mine(1)
        again = ElectrumServer(r.box)
        r.relay.target = await r.nursery.start(again.serve, 0)

        async def back() -> None:
            assert [s.txid for s in await chain.sightings(SCRIPT)] == [tx.txid]
            assert len(await chain.sightings(OTHER)) == 1
            same_tip(r, chain)

        await eventually(back)
        other = r.box.fund(SCRIPT, 41_000)
        again.flush()

        async def told() -> None:
            assert other.txid in [s.txid for s in await chain.sightings(SCRIPT)]

        await eventually(told)


async def test_a_reorg_while_away_is_found_on_return() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        r.mine(4)
        await r.depth(SCRIPT, r.box.height - 3)
        target, r.relay.target = r.relay.target, 1
        for connection in list(r.server._connections):
            await trio.aclose_forcefully(connection._stream)

        async def away() -> None:
            assert not r.chain.connected

        await eventually(away)
        r.reorg(4)
        r.relay.target = target
        await caught_up(r)
        await r.depth(SCRIPT, 0)


async def test_broadcast_tells_known_from_refused() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)
        assert await r.chain.broadcast(tx.serialize()) == tx.txid  # in the mempool
        r.mine()
        assert await r.chain.broadcast(tx.serialize()) == tx.txid  # confirmed
        stranger = double_spend(tx, OTHER)
        with pytest.raises(LocalFault, match="missingorspent") as caught:
            await r.chain.broadcast(stranger)
        assert "\n" not in str(caught.value)
        assert stranger.hex() not in str(caught.value)
        with pytest.raises(InvalidRecord):
            await r.chain.broadcast(b"\1\2\3")


async def test_a_confirmed_transaction_whose_outputs_are_all_spent_is_known() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)

        def twist(method: str, message: dict[str, object]) -> dict[str, object]:
            if method == "blockchain.transaction.broadcast":
                words = "the transaction was rejected by network rules.\n\nbad-txns-inputs-missingorspent\n[00]"
                return {"id": message["id"], "error": {"code": 1, "message": words}}
            return message

        r.relay.twist = twist
        assert await r.chain.broadcast(tx.serialize()) == tx.txid


async def test_what_nobody_knows_is_not_found() -> None:
    async with rig() as r:
        with pytest.raises(NotFound):
            await r.chain.transaction(b"\7" * 32)
        with pytest.raises(Unreachable):
            await r.chain.proof(b"\7" * 32, 1)


async def test_a_fee_estimate_is_an_integer() -> None:
    async with rig() as r:
        rate = await r.chain.fee_rate(3)
        assert type(rate) is int
        assert rate >= 1


async def test_no_server_is_unreachable_and_the_daemon_still_starts() -> None:
    chain = ElectrumChain("127.0.0.1", 1, NET, SystemClock(), timeout=1)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(chain.run)
        for ask in (chain.tip, lambda: chain.mtp(0)):
            with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1|not in our chain"):
                ask()
        with pytest.raises(Unreachable):
            await chain.sightings(SCRIPT)
        nursery.cancel_scope.cancel()


async def test_a_script_funded_in_one_block_by_many() -> None:
    async with rig() as r:
        txs = {r.box.fund(SCRIPT, 30_000 + n).txid for n in range(5)}
        r.mine()

        async def all_there() -> None:
            seen = await r.chain.sightings(SCRIPT)
            assert {s.txid for s in seen} == txs
            assert {s.height for s in seen} == {r.box.height}
            assert all(parse_transaction("tx", s.raw).txid == s.txid for s in seen)

        await eventually(all_there)


async def test_after_a_reconnect_a_waiter_is_told_without_asking() -> None:
    async with rig() as r:
        await r.chain.watch(SCRIPT)
        for connection in list(r.server._connections):
            await trio.aclose_forcefully(connection._stream)

        async def back() -> None:
            assert r.relay.connections == 2
            assert r.chain.connected

        await eventually(back)
        with trio.fail_after(PATIENCE):
            await r.chain.changed()  # the reconnect itself
            r.fund(SCRIPT, 50_000)  # a payment alone: no block comes with it
            await r.chain.changed()


async def test_a_notice_that_overtakes_the_older_answer_wins() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)
        subscribe = "blockchain.scripthash.subscribe"

        def twist(method: str, message: dict[str, Any]) -> dict[str, Any] | bytes:
            if method != subscribe or "id" not in message:
                return message
            name = scripthash(SCRIPT)
            notice = {"method": subscribe, "params": [name, message["result"]]}
            older = message | {"result": None}  # as it was before the payment
            return b"".join(json.dumps(m).encode() + b"\n" for m in (notice, older))

        r.relay.twist = twist
        assert [s.txid for s in await r.chain.sightings(SCRIPT)] == [tx.txid]
        assert r.relay.lies == 1
