"""No satoshi appears or vanishes, whatever coins, shares and rates; and the order never matters."""

from typing import Any

import hypothesis.strategies as st
import pytest
from escrow_tx_kit import coin, contract, h, taproot, wpkh
from hypothesis import given, settings

from escrow.contract import KINDS_ALLOWED, Contract, max_rate
from escrow.funding import (
    COMMON_WEIGHT,
    MIN_OUTPUT,
    FundingSide,
    build_funding,
    common_weight,
    contribution,
    fee_for,
    respend,
    select_coins,
    side_fee,
)
from escrow.keys import check_ecdsa_form
from escrow.payout import (
    Branch,
    Split,
    build_payout,
    check_split,
    off_fee,
    payout_rates,
    verdict_split,
)
from escrow.psbt import read
from escrow.script import arbiter_terms, kind, p2wpkh
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.transaction import SEQUENCE_RBF, Outpoint
from p2pnode.base.units import COIN

POINT = Outpoint(h("funding"), 2)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    amount = draw(st.integers(200_000, 10 * COIN))
    dep = st.integers(max(-(-amount // 10), 10_000), amount // 2)
    dep_b, dep_s = draw(dep | st.just(0)), draw(dep)
    escrow = amount + dep_b + dep_s
    return contract(
        escrow_kind=draw(st.sampled_from(KINDS_ALLOWED)),
        fee_a2=draw(st.integers(0, escrow // 4)),
        amount_sat=amount,
        dep_b=dep_b,
        dep_s=dep_s,
        fee_a=draw(st.integers(0, min(20_000, escrow // 4)) | st.just(escrow // 50)),
        rate=draw(st.integers(1, max_rate(escrow))),
        script_b=draw(st.sampled_from([wpkh("B"), taproot("B")])),
        script_s=draw(st.sampled_from([wpkh("S"), taproot("S")])),
    )


@st.composite
def sides(draw: st.DrawFn, made: Contract, owner: Any) -> FundingSide:
    """Coins that cover the part, with any surplus, in any number and of both kinds."""
    if not contribution(made, owner):
        return FundingSide()
    kinds = draw(st.lists(st.booleans(), min_size=1, max_size=8))
    scripts = [(taproot if tap else wpkh)(f"{owner}{n}") for n, tap in enumerate(kinds)]
    change = draw(st.sampled_from([wpkh(f"{owner}c"), taproot(f"{owner}c")]))
    bare = [coin(f"{owner}{n}", 1, script) for n, script in enumerate(scripts)]
    need = contribution(made, owner) + side_fee(made, owner, bare, None)
    surplus = draw(st.integers(0, 30_000) | st.integers(0, COIN))
    share, rest = divmod(need + surplus, len(bare))
    values = [share] * (len(bare) - 1) + [share + rest]
    coins = [
        coin(f"{owner}{n}", v, s) for n, (v, s) in enumerate(zip(values, scripts, strict=True))
    ]
    return FundingSide(tuple(draw(st.permutations(coins))), change)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_funding_conserves_and_each_side_pays_its_own(data: st.DataObject) -> None:
    made = data.draw(contracts())
    buyer, seller = data.draw(sides(made, "B")), data.draw(sides(made, "S"))
    funding = build_funding(made, buyer, seller)
    brought = {"b": sum(i.value for i in buyer.inputs), "s": sum(i.value for i in seller.inputs)}
    out = sum(o.value for o in funding.tx.outputs)
    assert out + funding.fee_sat == sum(brought.values())
    assert funding.fee_b + funding.fee_s == funding.fee_sat
    for name, owner, side in (("b", "B", buyer), ("s", "S", seller)):
        fee, change = getattr(funding, f"fee_{name}"), getattr(funding, f"change_{name}")
        assert brought[name] == contribution(made, owner) + fee + change
        if not side.inputs:
            assert (owner, made.dep_b, fee, change) == ("B", 0, 0, 0)
            continue
        least = side_fee(made, owner, side.inputs, side.change_script if change else None)
        # the two common parts are the whole
        assert common_weight(made, "B") + common_weight(made, "S") == COMMON_WEIGHT
        assert least <= fee < least + (1 if change else MIN_OUTPUT + 43 * made.rate + 1)
        assert change == 0 or change >= MIN_OUTPUT
    assert sum(o.value == made.escrow_sat for o in funding.tx.outputs) >= 1
    assert funding.tx.outputs[funding.escrow_outpoint.vout].value == made.escrow_sat
    other = FundingSide(tuple(data.draw(st.permutations(buyer.inputs))), buyer.change_script)
    assert build_funding(made, other, seller) == funding


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_payout_conserves_and_makes_no_dust(data: st.DataObject) -> None:
    made = data.draw(contracts())
    branches = list(Branch)[: len(kind(made).input_weights)]
    branch = data.draw(st.sampled_from(branches))
    key, arbiters_fee = arbiter_terms(made, branch)
    rest = made.escrow_sat - arbiters_fee
    edge = st.integers(0, 2_000) | st.integers(max(0, rest - 2_000), rest)
    split = verdict_split(made, data.draw(st.integers(0, rest) | edge), branch)
    rate = data.draw(st.sampled_from(payout_rates(made)))
    payout = build_payout(made, POINT, split, rate, branch)
    assert payout.tx.inputs[0].sequence == (made.n if branch else SEQUENCE_RBF)
    values = [o.value for o in payout.tx.outputs]
    assert sum(values) + payout.fee_sat == made.escrow_sat
    paid = (payout.buyer_sat_paid, payout.seller_sat_paid, payout.arbiter_sat_paid)
    assert sum(paid) == sum(values)
    assert [p for p in paid if p] == values
    assert payout.arbiter_sat_paid == (arbiters_fee if arbiters_fee >= 294 else 0)
    if payout.arbiter_sat_paid:
        assert payout.tx.outputs[-1].script == p2wpkh(key)
    assert all(p == 0 or p >= MIN_OUTPUT for p in paid[:2])
    # the fee comes off the larger alone; a fold is the only other change, below 1,000
    smaller = min((split.buyer_sat, paid[0]), (split.seller_sat, paid[1]))
    assert smaller[1] == smaller[0] or smaller[0] < MIN_OUTPUT


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_the_fee_of_a_repeated_split_takes_nothing_else(data: st.DataObject) -> None:
    made = data.draw(contracts())
    branches = list(Branch)[: len(kind(made).input_weights)]
    branch = data.draw(st.sampled_from(branches))
    buyer = data.draw(st.integers(0, made.escrow_sat) | st.integers(0, 2_000))
    split, loser = Split(buyer, made.escrow_sat - buyer, 0), data.draw(st.sampled_from("BS"))
    found = off_fee(made, split, loser, branch)  # type: ignore[arg-type]
    check_split(made, found, branch)
    mine, other = (split.buyer_sat, split.seller_sat), (found.buyer_sat, found.seller_sat)
    if loser == "S":
        mine, other = mine[::-1], other[::-1]
    fee = arbiter_terms(made, branch)[1]
    assert other[0] == max(0, mine[0] - fee)
    assert other[1] == mine[1] - max(0, fee - mine[0])


@given(contracts(), st.lists(st.integers(-(2**70), 2**70), min_size=3, max_size=3))
def test_no_split_off_by_anything(made: Contract, parts: list[int]) -> None:
    if sum(parts) == made.escrow_sat:
        return
    with pytest.raises(InvalidRecord):
        check_split(made, Split(*parts))
    with pytest.raises(InvalidRecord):
        build_payout(made, POINT, Split(*parts))


@given(contracts(), st.lists(st.integers(1, COIN), max_size=12), st.sampled_from("BS"))
@settings(max_examples=100, deadline=None)
def test_chosen_coins_always_fund(made: Contract, values: list[int], owner: Any) -> None:
    coins = [coin(f"{n}", value, wpkh("x")) for n, value in enumerate(values)]
    try:
        chosen = select_coins(made, owner, coins, wpkh("c"))
    except LocalFault:
        best = sorted(values, reverse=True)[:8]
        fee = side_fee(made, owner, coins[: len(best)], None)
        assert sum(best) < contribution(made, owner) + fee
        return
    other = FundingSide((coin("o", 100 * COIN, taproot("o")),), wpkh("oc"))
    if owner == "S" and not made.dep_b:
        other = FundingSide()
    buyer, seller = (chosen, other) if owner == "B" else (other, chosen)
    assert build_funding(made, buyer, seller).fee_sat > 0
    assert len(chosen.inputs) <= 8


@given(st.integers(1, COIN), st.integers(0, 10**6), st.integers(1, 500))
def test_respend_never_pays_too_little(value: int, funding_fee: int, rate: int) -> None:
    own = coin("b", value, wpkh("b"))
    try:
        tx = respend([own], wpkh("home"), funding_fee=funding_fee, rate=rate)
    except LocalFault:
        assert value < 110 + MIN_OUTPUT
        return
    fee, spare = value - tx.outputs[0].value, value - MIN_OUTPUT
    twice = fee_for(2 * rate, 438)
    full = max(twice, funding_fee + 110)
    assert fee == (full if full <= spare else twice if twice <= spare else 110)


@given(st.binary(max_size=80))
def test_signature_bytes_never_crash(raw: bytes) -> None:
    with pytest.raises(InvalidRecord):
        check_ecdsa_form("signature", raw + b"\x02")


@given(st.binary(max_size=300) | st.text(max_size=300), st.booleans())
def test_psbt_bytes_never_crash(raw: Any, magic: bool) -> None:
    import base64

    tx = build_payout(contract(), POINT, Split(550_000, 75_000, 0)).tx
    body = raw.encode() if isinstance(raw, str) else raw
    text = base64.b64encode(b"psbt\xff" + body if magic else body).decode()
    with pytest.raises(InvalidRecord):
        read(text, tx)
