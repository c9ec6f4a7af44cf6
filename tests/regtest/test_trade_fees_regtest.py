"""Fees on a real bitcoind: what is refused, stuck, hurried, replaced, and given up.

The node is the tests' own: its mempool's minimum is raised, and others' payments make its
estimates. Blocks that leave the mempool where it is stand for miners who want more.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from core_rig import AMOUNT, ARBITER_FEE, DEP_B, DEP_S, OPENING, CoreRig, core_rig, display
from regtest_kit import COIN, Bitcoind, bitcoind_program, electrum_server

from escrow import shell_bump
from escrow.contract import KIND_BACKUP
from escrow.messages import Kind
from escrow.model import (
    Broadcast,
    Closed,
    Decide,
    Disputed,
    Funded,
    Hearing,
    Paid,
    Releasing,
    Ruled,
    SayPaid,
    SayReceived,
    Void,
)
from escrow.payout import Split, build_payout, payout_rates, release
from p2pnode.base.transaction import parse_transaction

RELEASE = Split(AMOUNT + DEP_B, DEP_S, 0)
HOUR = 3600


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bitcoind, str]]:
    """A chain whose fees are this module's, where nobody estimates at first."""
    folder, clock = tmp_path_factory.mktemp("market"), int(time.time()) - 365 * 86_400
    with (
        Bitcoind(bitcoind_program(), folder, clock) as node,
        electrum_server(node, tmp_path_factory.mktemp("market-electrumx")) as endpoint,
    ):
        yield node, endpoint


@contextmanager
def demanding(node: Bitcoind, rate: float) -> Iterator[None]:
    """Give the node an empty mempool that takes nothing below `rate` sat/vB, for a while."""
    node.forget(f"-minrelaytxfee={rate / 100_000:.8f}")
    try:
        yield
    finally:
        node.forget()


def rates(r: CoreRig, trade_id: bytes) -> tuple[int, int]:
    """The trade's two rates: they differ, and the raised one is at most four times the lower."""
    contract = r["maker"].facts(trade_id).contract
    low, raised = payout_rates(contract)
    assert low < raised <= 4 * low
    return low, raised


def payouts(r: CoreRig, trade_id: bytes) -> tuple[bytes, bytes]:
    """The txids of RELEASE at both rates."""
    facts = r["maker"].facts(trade_id)
    split = release(facts.contract)
    low, raised = (
        build_payout(facts.contract, facts.outpoint, split, rate).tx.txid
        for rate in payout_rates(facts.contract)
    )
    return low, raised


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a server's notices are waited for otherwise; on a node a stuck parent waits 30 s."""
    monkeypatch.setattr(shell_bump, "SETTLE_S", 0)


async def children(r: CoreRig, parent: bytes, *owners: str) -> dict[str, int]:
    """Wait until bitcoind holds a child of each owner's; return each child's fee in satoshi."""

    async def there() -> dict[str, int]:
        r.poke()
        pool = r.core.rpc("getrawmempool", True)
        found = {}
        for child in pool.get(display(parent), {"spentby": []})["spentby"]:
            tx = r.core.decoded(child)
            script = bytes.fromhex(tx["vout"][0]["scriptPubKey"]["hex"])
            (owner,) = (n for n in ("maker", "taker") if r[n].wallet.owns_script(script))
            found[owner] = round(pool[child]["fees"]["base"] * COIN)
        assert set(found) == set(owners), (found, list(pool))
        return found

    fees: dict[str, int] = await r.eventually(there)
    return fees


def package_rate(r: CoreRig, child: str) -> Decimal:
    """What a child and its parents pay together, in sat/vB."""
    entry = r.core.rpc("getmempoolentry", child)
    return Decimal(str(entry["fees"]["ancestor"])) * COIN / entry["ancestorsize"]


async def test_a_payout_that_the_mempool_refuses_goes_out_at_the_raised_rate(market: Any) -> None:
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        low, raised = rates(r, trade_id)
        with demanding(r.core, low + 1):
            await r.act("maker", trade_id, SayReceived())
            assert await r.payout(trade_id) == payouts(r, trade_id)[1]
            r.mine()
        refused = [line for line in r.log if "the payout at the lower rate is refused" in line]
        assert refused
        assert "fee not met" in refused[0]
        r.mine(5)
        await r.ended(trade_id, "released")
        await r.settled(trade_id, RELEASE, rate=raised)


async def test_a_payout_that_no_miner_takes_is_raised_and_then_paid_for_by_children(
    market: Any,
) -> None:
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        await r.act("maker", trade_id, SayReceived())
        low, raised = payouts(r, trade_id)
        assert await r.payout(trade_id) == low
        await r.until("taker", trade_id, Releasing)
        r.core.mine(2, empty=True)
        await r.synced()
        await r.quiet("taker", trade_id)
        assert await r.payout(trade_id) == low
        r.core.mine(1, empty=True)
        assert await r.payout(trade_id, low) == raised
        assert display(low) not in r.core.rpc("getrawmempool")

        r.core.mine(2, empty=True)
        await r.synced()
        await r.quiet("taker", trade_id)
        assert r.core.rpc("getrawmempool") == [display(raised)]
        r.core.mine(1, empty=True)
        first = await children(r, raised, "taker")  # who completed it, and has an output of it
        (child,) = set(r.core.rpc("getrawmempool")) - {display(raised)}
        _, rate = rates(r, trade_id)
        assert 2 * rate <= package_rate(r, child) < 2 * rate + Decimal("0.2")

        r.core.spike(5 * rate, 6)  # others pay more, and bitcoind says so
        r.core.mine(1, empty=True)

        async def hurried_more() -> str:
            found = r.core.rpc("getmempoolentry", display(raised))["spentby"]
            assert found != [child]
            return str(found[0])

        second: str = await r.eventually(hurried_more)
        assert package_rate(r, second) > 4 * rate
        more = await children(r, raised, "taker")
        assert more["taker"] > first["taker"]
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE, rate=rate, besides=more)


async def test_a_payout_pinned_by_the_other_sides_child_is_hurried_as_it_is(market: Any) -> None:
    """His child pays more than the raised payout would: it cannot replace the lower one."""
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        await r.act("maker", trade_id, SayReceived())
        low, raised = payouts(r, trade_id)
        assert await r.payout(trade_id) == low
        pays = 4 * RELEASE.seller_sat // 10
        pin = r.core.child(r["maker"].words, display(low), pays)
        r.core.mine(3, empty=True)
        await r.noted("taker", trade_id, "insufficient fee, rejecting replacement")
        assert set(r.core.rpc("getrawmempool")) == {display(low), pin}
        r.core.mine(3, empty=True)
        fees = await children(r, low, "maker", "taker")
        assert fees["maker"] == pays
        assert display(raised) not in r.core.rpc("getrawmempool")
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE, besides=fees)


# -- a funding that no miner takes


def wait(r: CoreRig, hours: int) -> None:
    """Let time pass by the chain's median, in blocks that leave the mempool where it is."""
    until = r.mtp() + hours * HOUR
    r.core.mine(12, step=(until - r.core.clock) // 5 + 1, empty=True)
    assert until <= r.mtp() < until + 2 * hours * HOUR


async def test_a_funding_of_a_day_is_paid_for_by_children(market: Any) -> None:
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.both(trade_id, Broadcast)
        funding = r["maker"].facts(trade_id).outpoint.txid
        wait(r, 24)
        fees = await children(r, funding, "maker", "taker")
        rate, _ = rates(r, trade_id)
        spent = r.core.rpc("getmempoolentry", display(funding))["spentby"]
        assert all(package_rate(r, child) >= 2 * rate for child in spent)
        r.mine()
        await r.both(trade_id, Funded)
        await r.delivered("maker", trade_id, Kind.ACK)
        await r.act("taker", trade_id, SayPaid("sent"))
        await r.until("maker", trade_id, Paid)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE, besides=fees)


async def test_a_funding_of_three_days_is_given_up_by_both(market: Any) -> None:
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.both(trade_id, Broadcast)
        funding = r["maker"].facts(trade_id).outpoint.txid
        inputs = r.core.decoded(display(funding))["vin"]
        wait(r, 24)
        hurried = await children(r, funding, "maker", "taker")
        assert min(hurried.values()) > 0
        wait(r, 50)

        async def replaced() -> None:
            r.poke()
            back = [r.core.spender(i["txid"], i["vout"]) for i in inputs]
            assert display(funding) not in back, "the funding is not replaced"
            assert any(back), "no coin is taken back"

        await r.eventually(replaced)
        await void(r, trade_id)


async def void(r: CoreRig, trade_id: bytes) -> None:
    """Let respends be mined: 5 deep nothing has ended, 6 deep all has; recount the wallets.

    The first that confirms frees both sides: who saw it in time need not take his coin back.
    """

    async def seen() -> None:  # from now on neither sends another
        r.poke()
        for name in ("maker", "taker"):
            state, view = r[name].state(trade_id), r[name].facts(trade_id).view
            assert isinstance(state, Broadcast)
            assert state.respend
            assert view is not None
            assert view.conflict is not None

    await r.eventually(seen)
    r.mine(5)
    await r.synced()
    await r.quiet("maker", trade_id)
    await r.both(trade_id, Broadcast)
    r.mine()
    await r.both(trade_id, Void)
    assert not r.mempool()
    spent = {}
    for height in range(r.box.height - 5, r.box.height + 1):
        for tx in r.core.rpc("getblock", r.core.rpc("getblockhash", height), 2)["tx"][1:]:
            spent |= {f"{i['txid']}:{i['vout']}": r.core.fee(tx) for i in tx["vin"]}
    contract, made = r["maker"].facts(trade_id).contract, r["maker"].facts(trade_id).funding
    assert made is not None
    assert spent
    for side, who in (("B", contract.buyer), ("S", contract.seller)):
        (index,) = made.own(side)
        name = r.post.names[who]
        assert not r[name].locked()
        await r.holds(name, OPENING - spent.get(str(made.tx.inputs[index].outpoint), 0))


async def test_a_funding_that_the_mempool_refuses_is_given_up_too(market: Any) -> None:
    async with core_rig(*market) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.both(trade_id, Broadcast)
        rate, _ = rates(r, trade_id)
        with demanding(r.core, 1.5 * rate):
            for name in ("maker", "taker"):
                await r.noted(name, trade_id, "fee not met")
            assert not r.mempool()
            wait(r, 74)
            await void(r, trade_id)


# -- another pair of keys


@pytest.mark.parametrize("mined", ["verdict", "release"])
async def test_a_verdict_replaces_a_release_and_depth_decides(market: Any, mined: str) -> None:
    """The seller releases while a verdict is under way to him; both are good, one confirms."""
    held = [True]

    async def hook(frame: Any) -> list[bytes]:
        return [] if frame.kind is Kind.VERDICT and held[0] else [frame.raw]

    async with core_rig(*market, hook=hook) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        await r.dispute("taker", trade_id, "I paid on Monday.")
        await r.both(trade_id, Disputed)
        await r.answer("maker", trade_id, "Nothing came.")
        arbiter = r.arbiter(trade_id)
        await r.until(arbiter, trade_id, Hearing)
        await r.act(arbiter, trade_id, Decide(AMOUNT + DEP_B, "The bank shows it."))
        await r.act("maker", trade_id, SayReceived())
        released = await r.payout(trade_id)
        assert released == payouts(r, trade_id)[0]
        raw = r.core.rpc("getrawtransaction", display(released))
        await r.stop("taker")
        held[0] = False
        await r.until("maker", trade_id, Ruled)
        await r.quiet("maker", trade_id)
        r.core.mine(3, empty=True)
        verdict = await r.payout(trade_id, released)
        assert r.core.rpc("getrawmempool") == [display(verdict)]
        tx = parse_transaction(
            "verdict", bytes.fromhex(r.core.rpc("getrawtransaction", display(verdict)))
        )
        assert [o.value for o in tx.outputs][2] == ARBITER_FEE
        await r.nursery.start(r["taker"].run)

        if mined == "release":
            r.core.rpc("generateblock", r.core.nobody, [raw])
        else:
            r.mine()
        await r.deep(trade_id, 1)
        for name in ("maker", "taker"):
            assert not isinstance(r[name].state(trade_id), Closed)
        r.mine(5)
        if mined == "release":
            await r.ended(trade_id, "released")
            await r.settled(trade_id, RELEASE)
        else:
            await r.ended(trade_id, "ruled")
            ruled = Split(AMOUNT + DEP_B, DEP_S - ARBITER_FEE, ARBITER_FEE)
            await r.settled(trade_id, ruled, rate=rates(r, trade_id)[1])
