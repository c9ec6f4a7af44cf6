"""What the wallet calls money, what it spends, and what it says when it cannot."""

from pathlib import Path
from typing import Any

import pytest
import trio
from chain_kit import NET, OTHER, SCRIPT, Purse, double_spend, eventually, rig

from p2pnode.app.sandbox import miner
from p2pnode.base.errors import InvalidRecord, LocalFault, Unreachable
from p2pnode.base.store import Database
from p2pnode.base.transaction import (
    Outpoint,
    double_sha256,
    parse_transaction,
    root_from_branch,
)

TRADE = b"t" * 32
COIN = 100_000_000
BROADCAST = "blockchain.transaction.broadcast"


def address_of(purse: Purse, script: bytes) -> str:
    return purse.wallet.address_of(script)


async def test_pending_is_shown_and_is_not_money() -> None:
    async with rig() as r:
        purse = Purse(r)
        with pytest.raises(Unreachable, match="not been read"):
            purse.wallet.balance()
        r.fund(purse.wallet.script_for_payout(), COIN)
        balance = await purse.holds(0, pending=COIN)
        assert (balance.available, purse.wallet.coins()) == (0, ())
        with pytest.raises(
            LocalFault, match=r"not enough funds: 0\.10000000 BTC .*1\.00000000 BTC not confirmed"
        ):
            await purse.wallet.send(address_of(purse, SCRIPT), COIN // 10, 1)
        r.mine()
        balance = await purse.holds(COIN)
        assert balance.available == COIN
        (coin,) = purse.wallet.coins()
        assert (coin.value, coin.height) == (COIN, r.box.height)
        assert purse.wallet.owns_script(coin.script)


async def test_the_wallet_follows_the_chain_by_itself() -> None:
    async with rig() as r:
        purse = Purse(r)
        await r.nursery.start(purse.wallet.run)
        r.box.fund(purse.wallet.script_for_payout(), COIN)
        r.mine()

        async def there() -> None:
            assert purse.wallet.balance().confirmed == COIN

        await eventually(there)


async def test_a_payment_goes_out_with_its_change_and_fee() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        txid = await purse.wallet.send(address_of(purse, SCRIPT), 30_000_000, 5)
        assert purse.wallet.coins() == ()  # spent at once, whatever the server shows
        r.mine()
        raw = await r.chain.transaction(txid)
        tx = parse_transaction("tx", raw)
        fee = COIN - sum(o.value for o in tx.outputs)
        assert 5 * tx.weight <= 4 * fee <= 5 * tx.weight + 40
        assert sorted(o.script == SCRIPT for o in tx.outputs) == [False, True]
        assert all(i.sequence == 0xFFFFFFFD for i in tx.inputs)
        await purse.holds(COIN - 30_000_000 - fee)
        newest, oldest = purse.wallet.history()
        assert (newest.txid, newest.delta, newest.fee) == (txid, -30_000_000 - fee, fee)
        assert (oldest.delta, oldest.fee) == (COIN, None)


async def test_locked_coins_are_never_spent_and_locks_survive_a_restart(tmp_path: Path) -> None:
    async with rig() as r:
        purse = Purse(r, Database(tmp_path / "node.sqlite"))
        await purse.funded(60_000_000, 20_000_000)
        big = max(purse.wallet.coins(), key=lambda c: c.value)
        purse.locks.lock([big.outpoint], TRADE)
        purse.database.close()
        purse = Purse(r, Database(tmp_path / "node.sqlite"))
        balance = await purse.holds(80_000_000)
        assert (balance.locked, balance.available) == (60_000_000, 20_000_000)
        with pytest.raises(
            LocalFault, match=r"0\.20000000 BTC is available, 0\.60000000 BTC locked in trades"
        ):
            await purse.wallet.send(address_of(purse, SCRIPT), 30_000_000, 1)
        txid = await purse.wallet.send(address_of(purse, SCRIPT), 10_000_000, 1)
        tx = parse_transaction("tx", await r.chain.transaction(txid))
        assert big.outpoint not in {i.outpoint for i in tx.inputs}
        assert [i.outpoint for i in tx.inputs] != []
        purse.locks.unlock(TRADE)
        assert big in purse.wallet.coins()


async def test_all_coins_locked_is_not_enough_and_nothing_leaves() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(1_000_000, 1_000_000, 1_000_000)
        purse.locks.lock([c.outpoint for c in purse.wallet.coins()], TRADE)
        pool = len(r.box.pool.entries)
        with pytest.raises(LocalFault, match="not enough funds") as caught:
            await purse.wallet.send(address_of(purse, SCRIPT), 10_000, 1)
        assert caught.value.field == "amount_sat"
        assert len(r.box.pool.entries) == pool


@pytest.mark.parametrize(
    ("address", "sat", "rate", "field"),
    [
        ("", 10_000, 1, "address"),
        ("bcrt1qnonsense", 10_000, 1, "address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 10_000, 1, "address"),
        ("x" * 10_000, 10_000, 1, "address"),
        (None, 0, 1, "amount_sat"),
        (None, -5, 1, "amount_sat"),
        (None, 2**63, 1, "amount_sat"),
        (None, 100, 1, "amount_sat"),
        (None, 10_000, 0, "rate"),
        (None, 10_000, 501, "rate"),
    ],
)
async def test_a_wrong_payment_is_named_and_nothing_leaves(
    address: str | None, sat: int, rate: int, field: str
) -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        target = address_of(purse, SCRIPT) if address is None else address
        with pytest.raises((InvalidRecord, LocalFault)) as caught:
            await purse.wallet.send(target, sat, rate)
        assert caught.value.field == field
        assert len(str(caught.value)) < 300
        assert not r.box.pool.entries
        assert purse.wallet.balance().available == COIN


async def test_a_payment_the_network_refuses_leaves_its_coins_free() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        (coin,) = purse.wallet.coins()
        words = "the transaction was rejected by network rules.\n\nmempool full\n[00]"
        r.relay.twist = lambda method, m: (
            {"id": m["id"], "error": {"code": 1, "message": words}} if method == BROADCAST else m
        )
        with pytest.raises(LocalFault, match="mempool full"):
            await purse.wallet.send(address_of(purse, SCRIPT), 10_000, 1)
        assert purse.wallet.coins() == (coin,)


async def test_a_payment_of_unknown_fate_is_offered_again_and_not_spent_twice() -> None:
    async with rig(timeout=0.3) as r:
        purse = Purse(r)
        await purse.funded(COIN)

        def swallow(method: str, message: dict[str, Any]) -> dict[str, Any] | None:
            return None if method == BROADCAST else message

        r.relay.twist = swallow
        r.server.box.broadcast, honest = (
            lambda raw: parse_transaction("tx", raw),
            r.server.box.broadcast,
        )  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="do not repeat") as caught:
            await purse.wallet.send(address_of(purse, SCRIPT), 10_000_000, 1)
        assert not r.box.pool.entries
        assert purse.wallet.coins() == ()
        with pytest.raises(LocalFault, match="not enough"):
            await purse.wallet.send(address_of(purse, SCRIPT), 10_000_000, 1)
        r.relay.twist, r.server.box.broadcast = None, honest  # type: ignore[method-assign]

        async def offered() -> None:
            await purse.wallet.sync()
            assert len(r.box.pool.entries) == 1

        await eventually(offered)
        (entry,) = r.box.pool.entries.values()
        assert entry.tx.txid[::-1].hex() in str(caught.value)
        r.mine()
        await purse.holds(COIN - 10_000_000 - entry.fee)


async def test_a_reorg_makes_money_pending_and_a_double_spend_makes_it_nothing() -> None:
    async with rig() as r:
        purse = Purse(r)
        tx = r.fund(purse.wallet.script_for_payout(), COIN)
        r.mine(2)
        await purse.holds(COIN)
        r.reorg(2)
        await purse.holds(0, pending=COIN)
        r.mine()
        await purse.holds(COIN)
        r.reorg(1, txs=[double_spend(tx, OTHER)])
        await purse.holds(0)  # not even pending: no phantom stays
        assert purse.wallet.history() == ()
        assert purse.wallet.unspent() == ()


async def test_a_coin_whose_spend_was_double_spent_away_is_money_again() -> None:
    """The trap: a wallet that remembers the lost spend would keep the coin spent for good."""
    async with rig() as r:
        purse, other = Purse(r), Purse(r, words="zoo " * 11 + "wrong")
        await purse.funded(COIN)
        await other.funded(COIN)
        # one transaction spends a coin of each; the other side then spends his away
        txid = await purse.wallet.send(address_of(purse, SCRIPT), 40_000_000, 1)
        r.mine()
        raw = await r.chain.transaction(txid)
        await purse.holds(COIN - 40_000_000 - _fee(raw, COIN))
        r.reorg(1, drop=[txid])  # out of the chain and out of the mempool
        await purse.holds(COIN)
        assert len(purse.wallet.coins()) == 1


def _fee(raw: bytes, total: int) -> int:
    return total - sum(o.value for o in parse_transaction("tx", raw).outputs)


async def test_a_young_coinbase_is_not_money() -> None:
    async with rig() as r:
        purse = Purse(r)
        box, script = r.box, purse.wallet.script_for_payout()
        raw = miner.build_block(
            prev=box.chain.tip,
            height=box.height + 1,
            time=box.chain.times(1, 600)[0],
            txs=[],
            fees=0,
            nonce=b"coinbase",
            script=script,
        )
        box.chain.extend(raw)
        r.mine(98)
        await purse.holds(0, pending=50 * COIN)
        assert not purse.wallet.unspent()[0].mature
        r.mine()
        await purse.holds(50 * COIN)
        txid = await purse.wallet.send(address_of(purse, SCRIPT), COIN, 1)
        assert txid in r.box.pool.entries  # the network agrees that it is mature


async def test_the_words_alone_bring_everything_back() -> None:
    async with rig() as r:
        purse = Purse(r)
        scripts = [purse.wallet.script_for_payout() for _ in range(56)]
        changes = [purse.wallet.change_script() for _ in range(12)]
        for script in (scripts[0], scripts[25], scripts[55], changes[11]):
            r.box.fund(script, 1_000_000)
        r.mine()
        await purse.holds(4_000_000)
        again = Purse(r)  # another database
        await again.holds(4_000_000)
        assert again.wallet.script_for_payout() not in scripts
        assert again.wallet.change_script() not in changes


async def test_scripts_are_fresh_distinct_and_known_as_ours() -> None:
    async with rig() as r:
        purse = Purse(r)
        wallet = purse.wallet
        scripts = [wallet.script_for_payout(), wallet.change_script(), wallet.script_for_payout()]
        addresses = {wallet.address(), wallet.address(), *map(wallet.address_of, scripts)}
        assert len(addresses) == 5
        assert all(a.startswith(NET.hrp + "1q") for a in addresses)
        assert all(wallet.owns_script(s) and len(s) == 22 for s in scripts)
        assert not wallet.owns_script(SCRIPT)


async def test_bip_84s_own_example_is_derived() -> None:
    async with rig() as r:
        # the BIP's words; its key m/84'/1'/0'/0/0 as computed by two other implementations
        assert Purse(r).wallet.address() == "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"


async def test_a_declared_coin_proves_itself() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        (coin,) = purse.wallet.coins()
        said = await purse.wallet.declared(coin.outpoint)
        assert double_sha256(said.stripped) == coin.outpoint.txid
        tx = parse_transaction("tx", said.stripped)
        assert tx.outputs[coin.outpoint.vout].value == COIN
        root = root_from_branch(coin.outpoint.txid, said.branch, said.position)
        assert root == r.box.chain.index.headers[said.height].merkle_root
        with pytest.raises(LocalFault, match="not a confirmed coin"):
            await purse.wallet.declared(Outpoint(b"\7" * 32, 0))


async def test_without_a_server_the_last_view_stands_and_says_so() -> None:
    async with rig() as r:
        purse = Purse(r)
        await r.nursery.start(purse.wallet.run)
        await purse.funded(COIN)
        r.relay.target = 1
        for connection in list(r.server._connections):
            await trio.aclose_forcefully(connection._stream)

        async def away() -> None:
            with pytest.raises(Unreachable):
                await purse.wallet.sync()

        await eventually(away)
        assert purse.wallet.balance().confirmed == COIN


async def test_nothing_secret_is_shown() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        shown = "".join(
            repr(x) + str(x)
            for x in (
                purse.wallet,
                purse.wallet._keys,
                purse.wallet._snapshot,
                purse.wallet.coins(),
            )
        )
        assert "abandon" not in shown
        assert "prv" not in shown
    with pytest.raises(InvalidRecord, match="words") as caught:
        Purse.__init__(Purse.__new__(Purse), r, words="secret words that are no phrase")
    assert "secret" not in str(caught.value)


async def test_a_reorg_while_the_wallet_reads_makes_it_read_again() -> None:
    """Half of the old chain and half of the new one must never become one view."""
    async with rig() as r:
        purse = Purse(r)
        r.fund(purse.wallet.script_for_payout(), COIN)
        r.mine()
        await purse.holds(COIN)
        look, reads = r.chain.sightings, 0

        async def moving(script: bytes) -> Any:
            nonlocal reads
            reads += 1
            if reads == 1:
                old = await look(script)
                r.reorg(1)

                async def followed() -> None:
                    assert r.chain.tip().hash == r.box.chain.tip

                await eventually(followed)
                return old
            return await look(script)

        r.chain.sightings = moving  # type: ignore[method-assign]
        await purse.wallet.sync()
        balance = purse.wallet.balance()
        assert (balance.confirmed, balance.pending) == (0, COIN)
