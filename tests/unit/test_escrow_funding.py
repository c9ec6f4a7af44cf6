"""The joint funding: golden vectors, real signatures, and everything a peer may get wrong."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from embit import bip32, bip39, ec
from embit.script import Script
from embit.transaction import Transaction as EmbitTx
from escrow_tx_kit import (
    NETWORKS,
    WORDS,
    BdkWallet,
    coin,
    contract,
    h,
    joint,
    side,
    taproot,
    wpkh,
)

from escrow.backend_consensus import verify_transaction
from escrow.backend_funding import (
    assemble_funding,
    check_witnesses,
    sign_funding,
    sign_respend,
)
from escrow.backend_signatures import Opinions
from escrow.contract import KIND_BACKUP, Contract
from escrow.declared import check_declared, check_inputs, declare, read_declared
from escrow.funding import (
    Funding,
    FundingInput,
    FundingSide,
    build_funding,
    respend,
    select_coins,
    side_fee,
)
from escrow.payloads import Inputs
from escrow.payout import Split, refund, release
from escrow.psbt import read
from escrow.script import escrow_script, p2wpkh, witness_script
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault, SecondOpinionDiffers
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    display,
    merkle_branch,
    merkle_root,
)

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/funding.json").read_text())
MADE = contract()
BUYER, SELLER = BdkWallet(WORDS["B"]), BdkWallet(WORDS["S"])
TAP = BdkWallet(WORDS["S"], tap=True)


def load_side(value: dict[str, Any]) -> FundingSide:
    coins = tuple(
        FundingInput(
            Outpoint.from_wire("outpoint", bytes.fromhex(i["outpoint"])),
            i["value"],
            bytes.fromhex(i["script"]),
        )
        for i in value["inputs"]
    )
    return FundingSide(coins, bytes.fromhex(value["change_script"]))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_golden(vector: dict[str, Any]) -> None:
    made = Contract.from_wire(bytes.fromhex(vector["contract"]), NETWORKS[vector["network"]])
    buyer, seller = load_side(vector["buyer"]), load_side(vector["seller"])
    funding = build_funding(made, buyer, seller)
    expect = vector["expect"]
    assert made.hash.hex() == expect["contract_hash"]
    assert escrow_script(made).hex() == expect["escrow_script"]
    assert funding.tx.serialize().hex() == expect["tx"]
    assert display(funding.tx.txid) == expect["txid"]
    assert funding.escrow_outpoint == Outpoint(funding.tx.txid, expect["escrow_vout"])
    assert witness_script(made).hex() == expect["witness_script"]
    for name in ("fee_b", "fee_s", "change_b", "change_s"):
        assert getattr(funding, name) == expect[name], name
    mixed = FundingSide(buyer.inputs[::-1], buyer.change_script)
    assert build_funding(made, mixed, FundingSide(seller.inputs[::-1], seller.change_script)) == (
        funding
    )


# ------------------------------------------------------------------ signing


def signed(
    funding: Funding, buyer: BdkWallet = BUYER, seller: BdkWallet = SELLER
) -> tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]]:
    return (
        sign_funding(MADE, funding, buyer.sign, "B"),
        sign_funding(MADE, funding, seller.sign, "S"),
    )


@pytest.mark.parametrize("finalize", [True, False])
@pytest.mark.parametrize(
    ("buyer", "seller"),
    [
        ((BUYER, [100_000]), (SELLER, [700_000])),
        ((BUYER, [100_000]), (TAP, [700_000])),
        ((TAP, [30_000, 40_000]), (SELLER, [200_000] * 4)),
        ((BUYER, [10_000] * 8), (TAP, [100_000] * 8)),
        ((BUYER, [50_190]), (SELLER, [575_190])),
    ],
)
def test_both_sign_and_core_agrees(buyer: Any, seller: Any, finalize: bool) -> None:
    buyer[0].finalize = seller[0].finalize = finalize
    funding = joint(MADE, buyer, seller)
    for_b, for_s = signed(funding, buyer[0], seller[0])
    assert check_witnesses(funding, "B", for_b) == tuple(for_b)
    final = assemble_funding(funding, for_b, for_s)
    assert final.txid == funding.tx.txid == funding.escrow_outpoint.txid
    verify_transaction(final, funding.prevouts)
    predicted = 214 + sum(272 if len(p.script) == 22 else 230 for p in funding.prevouts)
    predicted += sum(4 * (9 + len(o.script)) for o in final.outputs) - 172
    grinded = sum(len(p.script) == 22 for p in funding.prevouts)
    assert predicted - 2 * grinded <= final.weight <= predicted
    assert funding.fee_sat * 4 >= MADE.rate * final.weight


def test_a_wallet_that_signs_the_peers_coin_is_caught() -> None:
    """The peer declares OUR coin as his: bdk signs it, nothing of that may leave."""
    buyer = side(BUYER, "b", [100_000])
    stolen = FundingSide((coin("mine", 700_000, BUYER.script(7)),), wpkh("thief"))
    funding = build_funding(MADE, buyer, stolen)
    with pytest.raises(PeerFault, match="declared our coin") as caught:
        sign_funding(MADE, funding, BUYER.sign, "B")
    assert caught.value.field == "inputs"


def test_a_wallet_that_answers_with_another_transaction_is_refused() -> None:
    funding = joint(MADE, (BUYER, [100_000]), (SELLER, [700_000]))
    other = joint(MADE, (BUYER, [100_001]), (SELLER, [700_000]))
    psbts: list[str] = []
    sign_funding(MADE, other, lambda text: psbts.append(BUYER.sign(text)) or psbts[0], "B")
    for wrong in (psbts[0], "", "!", "cHNidP8=", psbts[0][:-8]):
        with pytest.raises(SecondOpinionDiffers, match="sighash"):
            sign_funding(MADE, funding, lambda _, wrong=wrong: wrong, "B")
    with pytest.raises(InvalidRecord, match="not of the transaction"):
        read(psbts[0], funding.tx)
    with pytest.raises(SecondOpinionDiffers):  # nothing signed at all
        sign_funding(MADE, funding, lambda text: text, "B")


def test_a_funding_of_another_contract_is_not_signed() -> None:
    funding = joint(contract(amount_sat=499_999), (BUYER, [100_000]), (SELLER, [700_000]))
    with pytest.raises(InvalidRecord, match="funding"):
        sign_funding(MADE, funding, BUYER.sign, "B")


def refuse(*_: Any) -> None:
    raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")


@pytest.mark.parametrize("role", ["B", "S"])
@pytest.mark.parametrize(
    ("name", "opinions"),
    [
        ("address", Opinions(address=lambda _: "bcrt1qother")),
        ("sighash", Opinions(sighash=lambda *_: bytes(32))),
        ("consensus", Opinions(consensus=refuse)),
    ],
)
def test_a_differing_opinion_stops_the_funding(role: Any, name: str, opinions: Opinions) -> None:
    funding = joint(MADE, (BUYER, [100_000]), (TAP, [700_000]))
    wallet = BUYER if role == "B" else TAP
    with pytest.raises(SecondOpinionDiffers) as caught:
        sign_funding(MADE, funding, wallet.sign, role, opinions=opinions)
    assert caught.value.field == name


def test_core_refusing_the_whole_stops_the_broadcast() -> None:
    funding = joint(MADE, (BUYER, [100_000]), (SELLER, [700_000]))
    with pytest.raises(SecondOpinionDiffers, match="consensus"):
        assemble_funding(funding, *signed(funding), opinions=Opinions(consensus=refuse))


# ------------------------------------------------------------------ a peer's bad witnesses


def by_hand(funding: Funding, sighash_type: int, words: str = "B") -> list[tuple[bytes, ...]]:
    """Sign the buyer's first input as a modified client could."""
    root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(WORDS[words]))
    node = root.derive("m/84h/1h/0h/0/0")
    (index,) = funding.own("B")
    tx = EmbitTx.parse(funding.tx.serialize())
    secret: ec.PrivateKey = node.key
    public = secret.get_public_key().sec()
    code = Script(b"\x76\xa9\x14" + funding.prevouts[index].script[2:] + b"\x88\xac")
    value = funding.prevouts[index].value
    digest = tx.sighash_segwit(index, code, value, sighash_type)
    return [(secret.sign(digest).serialize() + bytes([sighash_type]), public)]


def test_the_hand_signs_as_the_wallet_does() -> None:
    funding = joint(MADE, (BUYER, [100_000]), (SELLER, [700_000]))
    assert check_witnesses(funding, "B", by_hand(funding, 1))


@pytest.mark.parametrize("sighash_type", [0, 2, 3, 0x81, 0x82, 0x83])
def test_a_witness_of_another_sighash_is_refused(sighash_type: int) -> None:
    funding = joint(MADE, (BUYER, [100_000]), (SELLER, [700_000]))
    with pytest.raises(PeerFault, match=r"witness_b\[0\]: has a sighash other than ALL"):
        check_witnesses(funding, "B", by_hand(funding, sighash_type))


def test_a_good_signature_by_a_key_that_is_not_the_coins() -> None:
    funding = joint(MADE, (BUYER, [100_000]), (SELLER, [700_000]))
    with pytest.raises(PeerFault, match="not this coin's"):
        check_witnesses(funding, "B", by_hand(funding, 1, "S"))


def test_bad_witnesses_are_refused_and_named() -> None:
    funding = joint(MADE, (BUYER, [60_000, 40_000]), (TAP, [700_000]))
    for_b, for_s = signed(funding, BUYER, TAP)
    replayed = joint(MADE, (BUYER, [60_000, 40_000]), (TAP, [700_001]))
    cases: dict[str, tuple[Any, Any]] = {
        "none": ("B", []),
        "one too few": ("B", for_b[:1]),
        "one too many": ("B", [*for_b, for_b[0]]),
        "swapped": ("B", for_b[::-1]),
        "of another transaction": ("B", sign_funding(MADE, replayed, BUYER.sign, "B")),
        "empty stack": ("B", [(), for_b[1]]),
        "three items": ("B", [(*for_b[0], b""), for_b[1]]),
        "key first": ("B", [for_b[0][::-1], for_b[1]]),
        "text": ("B", [("a", "b"), for_b[1]]),
        "nothing": ("B", None),
        "not stacks": ("B", [None, for_b[1]]),
        "Taproot for P2WPKH": ("B", [for_s[0], for_b[1]]),
        "P2WPKH for Taproot": ("S", [for_b[0]]),
        "Taproot with a sighash byte": ("S", [(for_s[0][0] + b"\x01",)]),
        "Taproot with an annex": ("S", [(*for_s[0], b"\x50")]),
        "Taproot zeros": ("S", [(bytes(64),)]),
    }
    for name, (who, stacks) in cases.items():
        with pytest.raises(PeerFault, match=f"witness_{who.lower()}"):
            check_witnesses(funding, who, stacks)
            pytest.fail(name)


# ------------------------------------------------------------------ the sides of the funding

GOOD_B = FundingSide((coin("b", 100_000, wpkh("b")),), wpkh("change b"))
GOOD_S = FundingSide((coin("s", 700_000, wpkh("s")),), wpkh("change s"))


def with_coin(**change: Any) -> FundingSide:
    return FundingSide((replace(GOOD_B.inputs[0], **change),), GOOD_B.change_script)


@pytest.mark.parametrize(
    ("buyer", "field"),
    [
        (FundingSide((), wpkh("c")), "inputs_b"),
        (FundingSide(), "inputs_b"),
        (
            FundingSide(tuple(coin(f"{n}", 10_000, wpkh("x")) for n in range(9)), wpkh("c")),
            "inputs_b",
        ),
        (FundingSide(GOOD_B.inputs * 2, wpkh("c")), "inputs"),
        (FundingSide(GOOD_S.inputs, wpkh("c")), "inputs"),
        (FundingSide((coin("b", 10**6, wpkh("s")),), wpkh("c")), "inputs"),
        (with_coin(value=0), "inputs_b[0].value"),
        (with_coin(value=-1), "inputs_b[0].value"),
        (with_coin(value=21 * 10**14 + 1), "inputs_b[0].value"),
        (with_coin(value=2**64), "inputs_b[0].value"),
        (with_coin(value=True), "inputs_b[0].value"),
        (with_coin(value=50_189), "inputs_b"),
        (with_coin(script=b"\xa9\x14" + bytes(20) + b"\x87"), "inputs_b[0].script"),
        (with_coin(script=b"\x00\x20" + bytes(32)), "inputs_b[0].script"),
        (with_coin(script=b"\x52\x20" + bytes(32)), "inputs_b[0].script"),
        (with_coin(script=b""), "inputs_b[0].script"),
        (with_coin(outpoint=Outpoint(bytes(31), 0)), "inputs_b[0].outpoint"),
        (with_coin(outpoint=Outpoint(bytes(32), -1)), "inputs_b[0].outpoint"),
        (with_coin(outpoint=Outpoint(bytes(32), 2**32)), "inputs_b[0].outpoint"),
        (FundingSide(GOOD_B.inputs, b"\x6a\x00"), "change_b"),
        (FundingSide(GOOD_B.inputs, b"\xa9\x14" + bytes(20) + b"\x87"), "change_b"),
        (FundingSide(GOOD_B.inputs, GOOD_S.change_script), "change_s"),
        (FundingSide(GOOD_B.inputs, MADE.script_b), "change_b"),
        (FundingSide(GOOD_B.inputs, MADE.script_s), "change_b"),
        (FundingSide(GOOD_B.inputs, p2wpkh(MADE.key_a)), "change_b"),
        (FundingSide(GOOD_B.inputs, escrow_script(MADE)), "change_b"),
    ],
)
def test_what_a_side_may_not_bring(buyer: FundingSide, field: str) -> None:
    build_funding(MADE, GOOD_B, GOOD_S)
    with pytest.raises(InvalidRecord) as caught:
        build_funding(MADE, buyer, GOOD_S)
    assert caught.value.field == field


def test_a_side_that_is_short_is_told_by_how_much() -> None:
    with pytest.raises(InvalidRecord, match=r"inputs_s: lack 1 sat"):
        build_funding(MADE, GOOD_B, FundingSide((coin("s", 575_189, wpkh("s")),), wpkh("c")))


def test_no_script_of_the_runner_up_among_the_outputs() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    build_funding(made, GOOD_B, GOOD_S)
    with pytest.raises(InvalidRecord, match="change_s: is the same script as key_a2"):
        build_funding(made, GOOD_B, FundingSide(GOOD_S.inputs, p2wpkh(made.key_a2)))


# ------------------------------------------------------------------ a buyer without a deposit

ZERO_B = contract(dep_b=0, escrow_kind=KIND_BACKUP)


def test_a_buyer_without_a_deposit_brings_nothing_and_signs_nothing() -> None:
    funding = build_funding(ZERO_B, FundingSide(), side(SELLER, "s", [700_000]))
    assert (funding.own("B"), funding.fee_b, funding.change_b) == ((), 0, 0)
    assert funding.fee_s * 4 >= ZERO_B.rate * (214 + 272 + 124) > (funding.fee_s - 1) * 4
    for_b = sign_funding(ZERO_B, funding, BUYER.sign, "B")
    for_s = sign_funding(ZERO_B, funding, SELLER.sign, "S")
    assert for_b == []
    assert check_witnesses(funding, "B", ()) == ()
    final = assemble_funding(funding, (), for_s)
    verify_transaction(final, funding.prevouts)
    assert funding.fee_sat * 4 >= ZERO_B.rate * final.weight
    with pytest.raises(PeerFault, match="witness_b"):
        check_witnesses(funding, "B", for_s)
    assert release(ZERO_B) == Split(500_000, 75_000, 0)
    assert refund(ZERO_B) == Split(0, 575_000, 0)


@pytest.mark.parametrize(
    "buyer",
    [GOOD_B, FundingSide(GOOD_B.inputs), FundingSide((), wpkh("c")), FundingSide([])],  # type: ignore[arg-type]
)
def test_a_buyer_without_a_deposit_may_bring_nothing(buyer: FundingSide) -> None:
    with pytest.raises(InvalidRecord) as caught:
        build_funding(ZERO_B, buyer, GOOD_S)
    assert caught.value.field == "inputs_b"


def test_a_seller_always_brings_coins() -> None:
    with pytest.raises(InvalidRecord, match="inputs_s"):
        build_funding(ZERO_B, FundingSide(), FundingSide())


def test_a_buyer_without_a_deposit_chooses_no_coin() -> None:
    assert select_coins(ZERO_B, "B", [], wpkh("c")) == FundingSide()
    assert select_coins(ZERO_B, "B", [coin("b", 10**6, wpkh("b"))], wpkh("c")) == FundingSide()
    need = 575_000 + 2 * (214 + 272) // 4
    short, enough = (coin("s", need - n, wpkh("s")) for n in (1, 0))
    with pytest.raises(LocalFault, match="not enough funds: 1 sat"):
        select_coins(ZERO_B, "S", [short], wpkh("c"))
    build_funding(ZERO_B, FundingSide(), select_coins(ZERO_B, "S", [enough], wpkh("c")))


def test_nobody_pays_for_anothers_coins() -> None:
    many = FundingSide(tuple(coin(f"s{n}", 90_000, wpkh("s")) for n in range(8)), wpkh("cs"))
    assert build_funding(MADE, GOOD_B, many).fee_b == build_funding(MADE, GOOD_B, GOOD_S).fee_b


# ------------------------------------------------------------------ choosing coins


def test_coins_are_chosen_largest_first() -> None:
    coins = [coin(f"{n}", value, wpkh("x")) for n, value in enumerate((9_000, 40_000, 30_000))]
    chosen = select_coins(MADE, "B", coins, wpkh("c"))
    assert [c.value for c in chosen.inputs] == [40_000, 30_000]
    build_funding(MADE, chosen, GOOD_S)


@pytest.mark.parametrize("values", [[], [50_189], [10_000] * 5, [6_000] * 20])
def test_not_enough_funds(values: Sequence[int]) -> None:
    coins = [coin(f"{n}", value, wpkh("x")) for n, value in enumerate(values)]
    with pytest.raises(LocalFault, match=r"not enough funds: \d+ sat"):
        select_coins(MADE, "B", coins, wpkh("c"))


def test_a_coin_that_cannot_be_declared_is_not_chosen() -> None:
    wrapped = coin("w", 10**7, b"\xa9\x14" + bytes(20) + b"\x87")
    with pytest.raises(LocalFault, match="not enough funds"):
        select_coins(MADE, "B", [wrapped], wpkh("c"))


# ------------------------------------------------------------------ a side's way out


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("rate", [1, 2, 40])
@pytest.mark.parametrize("who", ["B", "S"])
def test_either_side_can_replace_the_funding(tap: bool, rate: int, who: Any) -> None:
    buyer = BdkWallet(WORDS["B"], tap=tap)
    wallet = buyer if who == "B" else SELLER
    made = contract(rate=rate)
    funding = joint(made, (buyer, [200_000]), (SELLER, [120_000] * 7))
    own = funding.coins(who)
    assert [c.outpoint for c in own] == [funding.tx.inputs[i].outpoint for i in funding.own(who)]
    tx = respend(own, wallet.script(9), funding_fee=funding.fee_sat, rate=rate)
    final = sign_respend(tx, own, wallet.sign)
    fee = sum(c.value for c in own) - tx.outputs[0].value
    assert fee >= 2 * rate * final.weight / 4
    assert fee >= funding.fee_sat + final.vsize
    assert fee * 1000 // final.vsize > funding.fee_sat * 1000 // funding.tx.vsize
    verify_transaction(final, [TxOut(c.value, c.script) for c in own])


def test_respend_of_a_small_coin_is_refused() -> None:
    own = [coin("b", 1_109, wpkh("b"))]  # 1,000 for the output, 110 to relay
    with pytest.raises(LocalFault, match="too small"):
        respend(own, wpkh("home"), funding_fee=2_500, rate=2)
    for fee, rate in ((-1, 2), (2**63, 2), (0, 0), (0, 501)):
        with pytest.raises(InvalidRecord):
            respend(own, wpkh("home"), funding_fee=fee, rate=rate)


def test_a_respend_brings_every_coin_home_whatever_fee_the_peer_has_made() -> None:
    """Eight coins of the peer make a fee that ours cannot replace: they still come home."""
    own = [coin(f"b{n}", 3_340, wpkh("b")) for n in range(8)]
    whole = sum(c.value for c in own)
    for funding_fee, fee in ((2_000, 2_586), (30_000, 2_342), (0, 2_342)):
        tx = respend(own, wpkh("home"), funding_fee=funding_fee, rate=2)
        assert {i.outpoint for i in tx.inputs} == {c.outpoint for c in own}
        assert whole - tx.outputs[0].value == fee
    tight = [coin("b", 1_400, wpkh("b"))]
    assert respend(tight, wpkh("home"), funding_fee=0, rate=60).outputs[0].value == 1_290


def test_a_respend_that_core_refuses_does_not_leave() -> None:
    own = coin("b", 100_000, BUYER.script(0))
    tx = respend([own], wpkh("home"), funding_fee=500, rate=2)
    for name, opinions in (
        ("consensus", Opinions(consensus=refuse)),
        ("sighash", Opinions(sighash=lambda *_: bytes(32))),
    ):
        with pytest.raises(SecondOpinionDiffers, match=name):
            sign_respend(tx, [own], BUYER.sign, opinions)


# ------------------------------------------------------------------ declared inputs


def chain(*outputs: TxOut, coinbase: bool = False, txs: int = 5, at: int = 3) -> Any:
    """Return (declaration, root) of the first output in a block of `txs` transactions."""
    point = Outpoint(bytes(32), 0xFFFFFFFF) if coinbase else Outpoint(h("older"), 0)
    tx = Transaction(2, (TxIn(point, script_sig=b"\x01\x01", witness=(b"w",)),), outputs, 0)
    ids = [h(f"tx {n}") for n in range(txs)]
    ids[at] = tx.txid
    made = declare(Outpoint(tx.txid, 0), tx.serialize(), 90, at, merkle_branch(ids, at))
    return made, merkle_root(ids)


def test_a_declared_coin_is_read_from_its_own_transaction() -> None:
    made, root = chain(TxOut(123_456, wpkh("x")), TxOut(1, b""))
    expect = FundingInput(Outpoint.from_wire("outpoint", made.outpoint), 123_456, wpkh("x"))
    assert check_declared(made, merkle_root={90: root}.get, tip_height=90) == expect
    assert read_declared(made) == expect
    payload = Inputs(inputs=(made,), change_script=wpkh("c"))
    assert Inputs.from_wire(payload.wire()) == payload


def test_what_a_declaration_may_not_say() -> None:
    made, root = chain(TxOut(123_456, wpkh("x")), TxOut(1, b""))
    roots = {90: root, 91: h("other root")}
    point = Outpoint.from_wire("outpoint", made.outpoint)
    other, _ = chain(TxOut(123_457, wpkh("x")))
    full = Transaction(2, (TxIn(point, witness=(b"w",)),), (TxOut(1, wpkh("x")),), 0)
    cases = {
        "height": replace(made, height=91),
        "above the tip": replace(made, height=92),
        "position": replace(made, position=2),
        "beyond the tree": replace(made, position=8),
        "branch": replace(made, branch=made.branch[:-1]),
        "no branch": replace(made, branch=()),
        "another transaction": replace(made, prev_tx=other.prev_tx),
        "no such output": replace(made, outpoint=Outpoint(point.txid, 2).wire()),
        "a script that is none": replace(made, outpoint=Outpoint(point.txid, 1).wire()),
        "with witnesses": replace(
            made, prev_tx=full.serialize(), outpoint=Outpoint(full.txid, 0).wire()
        ),
        "trailing bytes": replace(made, prev_tx=made.prev_tx + b"\0"),
        "cut": replace(made, prev_tx=made.prev_tx[:-1]),
        "garbage": replace(made, prev_tx=b"\xff" * 100),
    }
    for name, bad in cases.items():
        with pytest.raises(InvalidRecord, match=r"inputs|merkle"):
            check_declared(bad, merkle_root=roots.get, tip_height=91)
            pytest.fail(name)
    for name in ("another transaction", "with witnesses", "no such output"):  # by itself alone
        with pytest.raises(InvalidRecord, match="inputs"):
            read_declared(cases[name])
            pytest.fail(name)
    for change in ({"height": 0}, {"prev_tx": bytes(100_001)}, {"branch": (bytes(32),) * 21}):
        with pytest.raises(InvalidRecord):
            replace(made, **change)


@pytest.mark.parametrize("value", [0, -1, 21 * 10**14 + 1, 2**63 - 1])
def test_a_declared_value_that_cannot_be(value: int) -> None:
    made, root = chain(TxOut(value, wpkh("x")))
    with pytest.raises(InvalidRecord, match="value"):
        check_declared(made, merkle_root={90: root}.get, tip_height=90)


def test_a_coinbase_must_be_mature() -> None:
    made, root = chain(TxOut(50, taproot("m")), coinbase=True, at=0)
    with pytest.raises(InvalidRecord, match="mature"):
        check_declared(made, merkle_root={90: root}.get, tip_height=188)
    assert check_declared(made, merkle_root={90: root}.get, tip_height=189).value == 50


def test_a_peers_list_of_coins() -> None:
    pairs = [chain(TxOut(1_000 + n, wpkh(f"{n}"))) for n in range(3)]
    pairs.sort(key=lambda pair: pair[0].outpoint)
    coins = [made for made, _ in pairs]
    root = pairs[0][1]

    def ask(declared: Any, refused: Any = lambda _: False) -> Any:
        return check_inputs(declared, merkle_root=lambda _: root, tip_height=90, refused=refused)

    assert [c.value for c in ask(coins[:1])] == [read_declared(coins[0]).value]
    for bad in ([], coins[:1] * 2, [coins[1], coins[0]], coins * 3):
        with pytest.raises(InvalidRecord, match="inputs"):
            ask(bad)
    with pytest.raises(InvalidRecord, match="ours, or bound in another trade"):
        ask(coins[:1], lambda c: c.outpoint.wire() == coins[0].outpoint)


def test_shares_are_the_designs() -> None:
    assert side_fee(MADE, "B", GOOD_B.inputs, None) == 190
    assert side_fee(MADE, "S", GOOD_B.inputs, wpkh("c")) == 252
    slow, tap = contract(rate=1), (coin("t", 1, taproot("t")),)
    assert side_fee(slow, "B", tap, taproot("c")) == -(-(107 + 230 + 172) // 4)
    assert side_fee(ZERO_B, "S", tap, None) == 2 * (214 + 230) // 4
