"""What receipts weigh: each reason for nothing, what a cheat pays, what is shown and kept."""

from dataclasses import replace

import pytest
from receipt_kit import Blocks, Deal, deal, who

from escrow import store_receipts
from escrow.proven import Proven
from escrow.receipt_parts import By
from escrow.shell_standing import Standing
from escrow.standing import (
    AGE_S,
    CIRCULAR,
    ENOUGH,
    MAX_SHOWN,
    NO_CREDIT,
    PER_PARTNER,
    TWICE,
    circular,
    history,
    named_since,
    selection,
    statistics,
    weigh,
)
from escrow.store_receipts import ReceiptStore
from p2pnode.base.errors import Misconfigured, StorageFault
from p2pnode.base.history import DAY_S, NONE, History
from p2pnode.base.ports import Tip
from p2pnode.base.store import Database

ME = who("ourselves")


@pytest.fixture
def blocks() -> Blocks:
    return Blocks()


def proven(blocks: Blocks, maker: str, taker: str, day: int, **more: object) -> Proven:
    return deal(blocks, maker, taker, day, **more).proven(blocks)  # type: ignore[arg-type]


def judged(
    blocks: Blocks, of: str, past: list[Proven], *, known: list[Proven] | None = None
) -> tuple[History, list[str]]:
    known = [*past, *(known or [])]
    found = weigh(who(of), past, named_since(known), (), ME, blocks.now)
    return history(found), [w.why for w in found]


# ------------------------------------------------------------------ what weighs


def test_a_counterparty_counts_from_its_own_thirtieth_day_on(blocks: Blocks) -> None:
    one = proven(blocks, "a", "b", 29)
    assert judged(blocks, "a", [one]) == (
        NONE,
        ["its counterparty is not 30 days old: 1 more"],
    )
    older = proven(blocks, "b", "c", 31)
    assert judged(blocks, "a", [one], known=[older]) == (History(1, 1, one.funded_at), [""])
    edge = replace(one, funded_at=blocks.now - AGE_S)
    assert judged(blocks, "a", [edge])[0].trades == 1
    assert judged(blocks, "a", [replace(edge, funded_at=edge.funded_at + 1)])[0] == NONE


def test_the_age_of_the_one_who_shows_does_not_count(blocks: Blocks) -> None:
    old, young = proven(blocks, "a", "b", 60), proven(blocks, "a", "c", 1)
    assert judged(blocks, "a", [old, young])[1] == [
        "",
        "its counterparty is not 30 days old: 29 more",
    ]


def test_one_trade_counts_once(blocks: Blocks) -> None:
    one = proven(blocks, "a", "b", 40)
    other_id = replace(one, trade_id=bytes(32), contract_hash=bytes(32))  # of the same funding
    other_funding = replace(one, funding_txid=bytes(32), contract_hash=bytes(32))
    for again in (one, other_id, other_funding):
        found, why = judged(blocks, "a", [one, again])
        assert found.trades == 1
        assert sorted(why) == ["", TWICE]


def test_one_funding_for_three_escrows_is_one_trade(blocks: Blocks) -> None:
    """Three contracts that name the same escrow keys: one transaction would prove them all."""
    one = proven(blocks, "a", "b", 40)
    three = [
        replace(one, trade_id=bytes([n]) * 32, contract_hash=bytes([n]) * 32) for n in range(3)
    ]
    assert judged(blocks, "a", three)[0].trades == 1
    assert len(statistics(three)[0].sales) == 1


def test_what_is_of_two_others_is_nobodys_past(blocks: Blocks) -> None:
    assert judged(blocks, "thief", [proven(blocks, "a", "b", 40)]) == (NONE, [])


def test_a_verdict_against_him_is_no_credit(blocks: Blocks) -> None:
    lost = proven(blocks, "a", "b", 40, by=By.VERDICT, buyer_sat=0)
    assert judged(blocks, "a", [lost])[1] == [NO_CREDIT]
    assert judged(blocks, "b", [lost])[1] == [NO_CREDIT]
    won = proven(blocks, "a", "b", 41, by=By.VERDICT, buyer_sat=500_000)
    assert judged(blocks, "a", [won])[1] == [NO_CREDIT]  # the seller, who did not confirm
    assert judged(blocks, "b", [won])[1] == [""]


def test_five_with_one_counterparty_are_enough(blocks: Blocks) -> None:
    many = [proven(blocks, "a", "b", 40 + n) for n in range(PER_PARTNER + 2)]
    found, why = judged(blocks, "a", many)
    assert (found.trades, found.partners) == (PER_PARTNER, 1)
    assert why == [""] * PER_PARTNER + [ENOUGH] * 2
    assert found.first_at == many[-1].funded_at  # the oldest weigh


def test_what_we_did_with_him_ourselves_weighs_at_once(blocks: Blocks) -> None:
    young = proven(blocks, "a", "ourselves", 1)
    assert judged(blocks, "a", [young]) == (History(1, 1, young.funded_at), [""])


# ------------------------------------------------------------------ rings


def test_a_ring_is_closed_when_all_have_shown_and_nobody_else_is_named(blocks: Blocks) -> None:
    ring = [proven(blocks, a, b, 40) for a, b in (("a", "b"), ("b", "c"), ("c", "a"))]
    a, b, c, d = map(who, "abcd")
    assert circular(ring, {a, b, c}, ME) == {a, b, c}
    assert circular(ring, {a, b}, ME) == frozenset()  # the third may be anybody
    outside = [*ring, proven(blocks, "c", "d", 40)]
    assert circular(outside, {a, b, c}, ME) == frozenset()
    assert circular(outside, {a, b, c, d}, ME) == {a, b, c, d}
    with_us = [*outside, proven(blocks, "d", "ourselves", 1)]
    assert circular(with_us, {a, b, c, d, ME}, ME) == frozenset()
    two = [*ring, proven(blocks, "x", "y", 40)]
    assert circular(two, {a, b, c, who("x")}, ME) == {a, b, c}
    found = weigh(a, ring, named_since(ring), circular(ring, {a, b, c}, ME), ME, blocks.now)
    assert {w.why for w in found} == {CIRCULAR}
    assert len(found) == 2


def test_what_a_past_costs_to_fake(blocks: Blocks) -> None:
    """The price that docs/threats.md names: two transactions and thirty days a counterparty."""
    names = [f"sock {n}" for n in range(8)]
    fresh = [proven(blocks, "thief", name, 1, number=n) for n, name in enumerate(names)]
    assert judged(blocks, "thief", fresh)[0] == NONE  # money alone buys nothing
    assert len({p.funding_txid for p in fresh} | {p.payout_txid for p in fresh}) == 16
    waited = [replace(p, funded_at=p.funded_at - 30 * DAY_S) for p in fresh]
    assert judged(blocks, "thief", waited)[0].partners == 8  # and waiting does
    # One old sock lends its age to no other.
    old = proven(blocks, "sock 0", "sock 1", 50)
    found, why = judged(blocks, "thief", fresh, known=[old])
    assert found.partners == 2
    assert why.count("") == 2
    # A hundred trades with the old ones add no counterparty, and stop at five with each.
    more = [proven(blocks, "thief", "sock 0", 2 + n) for n in range(25)]
    assert judged(blocks, "thief", [*fresh, *more], known=[old])[0] == History(
        PER_PARTNER + 1, 2, more[-1].funded_at
    )


# ------------------------------------------------------------------ what is shown


def test_the_oldest_of_many_counterparties_and_the_newest_are_shown(blocks: Blocks) -> None:
    own = [proven(blocks, "a", f"p{n % 50}", 10 + n // 5, number=n) for n in range(300)]
    chosen = selection(who("a"), own)
    assert len(chosen) == MAX_SHOWN == len({p.trade_id for p in chosen})
    oldest = min(own, key=lambda p: p.funded_at)
    assert oldest.funded_at == min(p.funded_at for p in chosen)
    assert len({p.other(who("a")) for p in chosen}) >= MAX_SHOWN // 2
    per = [p.other(who("a")) for p in chosen]
    assert max(per.count(x) for x in per) <= PER_PARTNER
    assert selection(who("a"), own[:3]) == sorted(own[:3], key=lambda p: (p.funded_at, p.trade_id))
    lost = proven(blocks, "a", "b", 90, by=By.VERDICT, buyer_sat=0)
    assert lost not in selection(who("a"), [*own[:3], lost])


# ------------------------------------------------------------------ statistics


def test_statistics_count_each_trade_once_by_currency(blocks: Blocks) -> None:
    euro = [
        Deal(blocks, "a", "b", blocks.tip - 300 - n, n).receipt(fiat_minor=fiat).proven(blocks)
        for n, fiat in enumerate([30_000, 31_000, 90_000])
    ]
    usd = Deal(blocks, "c", "b", 4000, 9).receipt(currency="USD").proven(blocks)
    found = statistics([*euro, usd, *euro])
    assert [(s.currency, len(s.sales)) for s in found] == [("EUR", 3), ("USD", 1)]
    market = found[0]
    assert market.amount_sat == 1_500_000
    assert market.prices == (60_000_000_000, 62_000_000_000, 180_000_000_000)
    assert market.average == 151_000 * 10**12 // 1_500_000
    assert [s.at for s in market.sales] == sorted(s.at for s in market.sales)
    assert [s.currency for s in statistics([*euro, usd], currency="USD")] == ["USD"]
    assert statistics(euro, since=blocks.now) == []
    ruled = proven(blocks, "a", "b", 50, by=By.VERDICT)
    assert statistics([ruled]) == []


# ------------------------------------------------------------------ kept


@pytest.fixture
def chain(blocks: Blocks) -> "FakeChain":
    return FakeChain(blocks)


class FakeChain:
    """The port's part that standing needs, over made-up blocks."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.away = blocks, False
        self.block_hash, self.merkle_root, self.mtp = (
            blocks.block_hash,
            blocks.merkle_root,
            blocks.mtp,
        )

    def tip(self) -> Tip:
        if self.away:
            raise Misconfigured("no chain", field="electrum")
        tip = self.blocks.tip
        return Tip(tip, self.block_hash(tip) or b"", self.blocks.now)


def test_a_thousand_receipts_are_kept_weighed_and_read_back(
    blocks: Blocks, chain: FakeChain
) -> None:
    database = Database(None)
    store = ReceiptStore(database)
    past = [proven(blocks, "maker", f"p{n}", 35 + n // 20, number=n) for n in range(1000)]
    for n in range(0, 1000, 100):
        node = who(f"shower {n}")
        named = [replace(p, maker=node) for p in past[n : n + 100]]
        store.keep(node, [(p.trade_id, p) for p in named], 5)
    for p in past[:200]:
        store.keep_own(b"raw", replace(p, maker=ME))
    standing = Standing(store, chain, ME)  # type: ignore[arg-type]
    again = Standing(ReceiptStore(database), chain, ME)  # type: ignore[arg-type]
    for node_id in (*(who(f"shower {n}") for n in range(0, 1000, 100)), ME):
        found = standing.history(node_id)
        assert found.trades == found.partners == (200 if node_id == ME else 100)
        assert again.history(node_id) == found
    assert standing.history(who("unknown")) == NONE


def test_a_reorg_takes_the_weight_and_the_same_block_gives_it_back(
    blocks: Blocks, chain: FakeChain
) -> None:
    store = ReceiptStore(Database(None))
    standing = Standing(store, chain, ME)  # type: ignore[arg-type]
    one = proven(blocks, "a", "b", 40)
    store.keep(who("a"), [(b"h", one)], 5)
    assert standing.history(who("a")).trades == 1
    blocks.reorg(one.funding_height)
    blocks.salts[blocks.tip] = "another tip"
    assert standing.history(who("a")) == NONE
    del blocks.salts[one.funding_height], blocks.salts[blocks.tip]
    assert standing.history(who("a")).trades == 1
    chain.away = True
    assert standing.history(who("a")) == NONE  # nothing is proven without a chain
    with pytest.raises(Misconfigured):
        standing.weighed(who("a"))


def test_who_was_not_heard_of_for_longest_is_forgotten_first(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_receipts, "MAX_SHOWN", 6)
    monkeypatch.setattr(store_receipts, "MAX_PER_NODE", 4)
    database = Database(None)
    store = ReceiptStore(database)
    one = proven(blocks, "a", "b", 40)

    def some(count: int) -> list[tuple[bytes, Proven]]:
        return [(bytes([n]), replace(one, trade_id=bytes([n]) * 32)) for n in range(count)]

    store.keep(b"x", some(9), 1)
    assert len(store.shown(b"x")) == 4  # of one peer
    store.keep(b"y", some(2), 2)
    store.keep(b"x", some(1), 3)  # heard of again
    store.keep(b"z", some(1), 4)
    assert {n: len(store.shown(n)) for n in (b"x", b"y", b"z")} == {b"x": 4, b"y": 0, b"z": 1}
    kept = ReceiptStore(database)
    assert {n: len(kept.shown(n)) for n in (b"x", b"y", b"z")} == {b"x": 4, b"y": 0, b"z": 1}
    assert kept.by_hash(b"x", b"\0") == replace(one, trade_id=bytes(32))
    store.keep(b"nothing to show", [], 9)
    assert b"nothing to show" not in store.peers()


def test_a_damaged_row_is_told(blocks: Blocks) -> None:
    database = Database(None)
    ReceiptStore(database).keep_own(b"raw", proven(blocks, "a", "b", 40))
    database.run("UPDATE receipt_own SET proven = x'90'")
    with pytest.raises(StorageFault, match="a kept receipt is damaged"):
        ReceiptStore(database)
