"""A receipt: read back, each of its fields bent, spliced of two trades, not in our chain."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from escrow_tx_kit import wpkh
from receipt_kit import DAY_BLOCKS, NET, Blocks, BoundPlay, Deal, lines
from trade_facts import ANCHOR, Play, h, identity, schnorr, secret

from escrow.contract import KIND_BACKUP, Contract
from escrow.messages import Kind
from escrow.model import Closed
from escrow.payout import Branch, Split, build_payout, payout_rates, release, verdict_split
from escrow.proven import Proven
from escrow.receipt import MAX_BYTES, Receipt
from escrow.receipt_of import receipt_of
from escrow.receipt_parts import By, Ended, Funding, Payout, Root, Said, Taken
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Transaction, TxIn, TxOut, parse_transaction

HEIGHT = 40 * DAY_BLOCKS
PARTS: dict[str, type] = {
    "root": Root,
    "take": Taken,
    "maker": Said,
    "taker": Said,
    "ended": Ended,
    "funding": Funding,
    "payout": Payout,
}


VECTORS: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parents[1] / "vectors/receipt.json").read_text()
)
MADE: dict[str, dict[str, Any]] = {
    "released": {},
    "released, raised": {"raised": 1},
    "ruled": {"by": By.VERDICT, "kind": KIND_BACKUP},
    "ruled by the runner-up": {"by": By.BACKUP, "kind": KIND_BACKUP, "after": 144 * 31},
}


@pytest.fixture
def blocks() -> Blocks:
    return Blocks()


def judged(raw: object, blocks: Blocks) -> Proven:
    """As a node that has it from a stranger."""
    return Receipt.decoded(raw, NET).proven(blocks)


def refused(raw: object, blocks: Blocks) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        judged(raw, blocks)
    return caught.value


@pytest.mark.parametrize("raised", [0, 1])
@pytest.mark.parametrize("maker_is_seller", [0, 1])
def test_a_released_trade_is_proven_for_both(
    blocks: Blocks, maker_is_seller: int, raised: int
) -> None:
    receipt = Deal(blocks, raised=raised).receipt(maker_is_seller=maker_is_seller)
    raw = receipt.wire()
    assert Receipt.from_wire(raw, NET) == receipt
    assert len(raw) < 2000
    proven = judged(raw, blocks)
    assert proven.outcome == "released"
    assert proven.funded_at == blocks.mtp(HEIGHT)
    assert [proven.credits(who) for who in proven.parties] == [True, True]
    assert proven.other(receipt.contract.maker) == receipt.contract.taker
    assert Proven.from_array(wire.unpack("kept", wire.pack(proven.array()), limit=2048)) == proven


@pytest.mark.parametrize("by", [By.VERDICT, By.BACKUP])
def test_a_verdict_speaks_for_the_buyer_to_whom_the_amount_went(blocks: Blocks, by: By) -> None:
    kind, after = (KIND_BACKUP, 144 * 31) if by is By.BACKUP else (KIND_BACKUP, 1)
    for number, (buyer_sat, credit) in enumerate([(500_000, True), (499_999, False), (0, False)]):
        deal = Deal(blocks, by=by, kind=kind, after=after, number=number, buyer_sat=buyer_sat)
        receipt = deal.receipt()
        proven = judged(receipt.wire(), blocks)
        assert proven.outcome == "ruled"
        assert proven.credits(receipt.contract.buyer) is credit
        assert not proven.credits(receipt.contract.seller)


# ------------------------------------------------------------------ bent


def _bent(value: Any) -> list[Any]:
    if isinstance(value, bytes):
        flipped = bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
        return [b"", value[:-1], value + b"\0", flipped, value[::-1]]
    if isinstance(value, int):
        return [value + 1, value - 1, -1, 2**40, "1"]
    if value:  # a merkle branch
        return [(), value[:-1], (*value, value[0]), value[::-1] if len(value) > 1 else (h("x"),)]
    return [(h("x"),)]


FIELDS = [(part, f.name) for part, kind in PARTS.items() for f in fields(kind)]


@pytest.mark.parametrize(("part", "name"), FIELDS)
def test_every_bent_field_is_refused_and_named(blocks: Blocks, part: str, name: str) -> None:
    whole = wire.unpack("receipt", Deal(blocks).receipt().wire(), limit=MAX_BYTES)
    at, place = 3 + list(PARTS).index(part), [f.name for f in fields(PARTS[part])].index(name)
    for value in _bent(whole[at][place]):
        if value == whole[at][place]:
            continue  # a palindrome
        line = [*whole[at]]
        line[place] = value
        error = refused(wire.pack((*whole[:at], tuple(line), *whole[at + 1 :])), blocks)
        assert error.field
        assert error.field.split(".")[0] in PARTS, error


@pytest.mark.parametrize("name", [f.name for f in fields(Contract) if f.name != "network"])
def test_every_bent_line_of_the_contract_is_refused(blocks: Blocks, name: str) -> None:
    receipt = Deal(blocks).receipt()
    lines = list(receipt.contract.array())
    at = receipt.contract.line_names().index(name)
    before = lines[at]
    bent: list[Any] = _bent(before) if not isinstance(before, str) else ["USD", "CASH", "", 5]
    for value in bent:
        if value == before:
            continue
        lines[at] = value
        whole = list(wire.unpack("receipt", receipt.wire(), limit=MAX_BYTES))
        whole[2] = wire.pack(lines)
        refused(wire.pack(whole), blocks)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x90", b"\xc0", bytes(100), bytes(MAX_BYTES + 1), wire.pack((1,) * 8), "text", None],
)
def test_what_is_no_receipt_is_refused(blocks: Blocks, raw: object) -> None:
    refused(raw, blocks)


def test_its_form_alone_is_accepted(blocks: Blocks) -> None:
    raw = Deal(blocks).receipt().wire()
    for wrong in (raw + b"\0", raw[:-1], raw + bytes(MAX_BYTES), b"\x99" + raw[1:]):
        refused(wrong, blocks)
    whole = list(wire.unpack("receipt", raw, limit=MAX_BYTES))
    for version in (0, 2, "1"):
        assert refused(wire.pack([version, *whole[1:]]), blocks).field == "version"


def test_one_of_another_network_is_refused(blocks: Blocks) -> None:
    raw = Deal(blocks, network=NETWORKS["regtest"]).receipt().wire()
    assert refused(raw, blocks).field == "network"
    whole = list(wire.unpack("receipt", raw, limit=MAX_BYTES))
    whole[1] = NET.name
    assert refused(wire.pack(whole), blocks).field == "network"  # of the contract
    lines = list(wire.unpack("contract", whole[2], limit=MAX_BYTES))
    lines[1] = NET.name
    whole[2] = wire.pack(lines)
    refused(wire.pack(whole), blocks)  # signed for another: tags, and the contract's hash


# ------------------------------------------------------------------ made by a thief


def test_one_funding_proves_one_trade_of_two_names(blocks: Blocks) -> None:
    """Whoever has both keys of an old escrow cannot make it the past of other names."""
    deal = Deal(blocks)
    true = deal.receipt()
    new = identity("a new name").node_id
    for name in ("maker", "taker"):
        # New contracts over the very same keys: of the old trade's id, and of a TAKE of theirs.
        ids = {"maker": true.contract.maker, "taker": true.contract.taker} | {name: new}
        for trade_id, field in ((true.contract.trade_id, "take"), (deal.take_id(**ids), "root")):
            contract = replace(true.contract, **{name: new}, trade_id=trade_id)
            made = replace(true, contract=contract)
            with pytest.raises(InvalidRecord) as caught:
                Receipt.from_wire(made.wire(), NET)
            assert caught.value.field.split(".")[0] == field
            refused(made.wire(), blocks)


# ------------------------------------------------------------------ by parts


def test_parts_of_two_trades_make_no_receipt(blocks: Blocks) -> None:
    """Of the same two people, amount and blocks: each part is true by itself."""
    one, two = (Deal(blocks, number=n).receipt() for n in (0, 1))
    for name in ("contract", *PARTS):
        spliced = replace(one, **{name: getattr(two, name)})
        assert spliced != one
        refused(spliced.wire(), blocks)


def test_nobody_can_be_named_without_his_signatures(blocks: Blocks) -> None:
    """The thief has every key but the victim's."""
    true = Deal(blocks)
    receipt = true.receipt()
    thief = Deal(blocks, maker="thief", height=HEIGHT, number=3)
    contract = thief.contract(maker=receipt.contract.maker)
    made = replace(receipt, contract=contract, taker=thief.said(contract, "taker"))
    assert refused(made.wire(), blocks).field in {"funding.transaction", "maker.signature"}
    # With a real funding of his own, all but the victim's header holds.
    own = thief.receipt(maker=receipt.contract.maker)
    assert refused(own.wire(), blocks).field == "maker.signature"
    # The victim's own headers, of another trade, do not fit.
    again = replace(own, maker=receipt.maker, ended=receipt.ended)
    assert refused(again.wire(), blocks).field == "maker.signature"


def test_the_escrow_keys_must_have_signed(blocks: Blocks) -> None:
    """Both identities signed a contract, but one of them holds no key of this escrow."""
    deal = Deal(blocks)
    receipt = deal.receipt()
    for name, said in (("maker", receipt.maker), ("taker", receipt.taker)):
        foreign = schnorr(secret("not in the contract"), receipt.contract.hash)
        who = deal.maker if name == "maker" else deal.taker
        other = deal.taker if name == "maker" else deal.maker
        from escrow.payloads import ContractSigned

        payload = ContractSigned(contract=receipt.contract.wire(), signature=foreign)
        message = deal.signed(Kind.CONTRACT, who, other, payload.wire())
        bent = replace(said, escrow_signature=foreign, **lines(message))
        error = refused(replace(receipt, **{name: bent}).wire(), blocks)
        assert error.field == f"{name}.escrow_signature"


def test_a_received_of_the_wrong_side_ends_nothing(blocks: Blocks) -> None:
    deal = Deal(blocks)
    receipt = deal.receipt()
    for kind, sender, to in (
        (Kind.RECEIVED, "taker", "maker"),  # the buyer's
        (Kind.PAID, "maker", "taker"),
        (Kind.VERDICT, "arbiter 0", "taker"),
        (Kind.RECEIVED, "maker", "arbiter 0"),
    ):
        message = deal.signed(kind, sender, to, b"\x90")
        bent = replace(receipt.ended, payload_hash=message.body()[-1], **lines(message))
        assert refused(replace(receipt, ended=bent).wire(), blocks).field == "ended.signature"


def test_a_verdict_of_who_was_not_drawn_ends_nothing(blocks: Blocks) -> None:
    deal = Deal(blocks, by=By.VERDICT)
    receipt = deal.receipt()
    message = deal.signed(Kind.VERDICT, "arbiter 1", "taker", b"\x90")
    bent = replace(receipt.ended, **lines(message))
    assert refused(replace(receipt, ended=bent).wire(), blocks).field == "ended.signature"
    second = replace(receipt.ended, by=int(By.BACKUP), **lines(message))
    assert refused(replace(receipt, ended=second).wire(), blocks).field == "ended.by"  # no such key


def test_a_payout_cannot_pass_for_a_funding(blocks: Blocks) -> None:
    """Else one transaction a trade would do: a payout that pays the next escrow."""
    deal = Deal(blocks)
    contract = deal.contract()
    before = Deal(blocks, number=9)
    first = before.contract(script_b=b"\x00\x20" + bytes(32))
    paid = build_payout(first, before.funding(first).escrow_outpoint, release(first)).tx
    from escrow.script import escrow_script

    chained = replace(
        paid,
        outputs=(
            replace(paid.outputs[0], value=contract.escrow_sat, script=escrow_script(contract)),
        ),
    )
    bent = replace(deal.receipt().funding, transaction=chained.serialize(witness=False))
    error = refused(replace(deal.receipt(), funding=bent).wire(), blocks)
    assert str(error) == (
        "funding.transaction: is not of version 2, locked to the contract's anchor"
    )


def _with_funding(deal: Deal, change: Any) -> Receipt:
    """A receipt whose funding was changed, and everything mined after it to fit."""
    contract = deal.contract()
    funding = change(deal.funding(contract).tx)

    class Bent(Deal):
        def funding(self, contract: Contract) -> Any:
            real = super().funding(contract)
            point = replace(real.escrow_outpoint, txid=funding.txid)
            return replace(real, tx=funding, escrow_outpoint=point)

    return Bent(**vars(deal)).receipt()


@pytest.mark.parametrize(
    "change",
    [
        lambda tx: replace(tx, version=1),
        lambda tx: replace(tx, locktime=0),
        lambda tx: replace(tx, locktime=tx.locktime + 1),
        lambda tx: replace(tx, inputs=tx.inputs[::-1]),
        lambda tx: replace(tx, outputs=tx.outputs[::-1]),
        lambda tx: replace(tx, inputs=(replace(tx.inputs[0], sequence=5), *tx.inputs[1:])),
        lambda tx: replace(tx, inputs=(replace(tx.inputs[0], script_sig=b"\0"), *tx.inputs[1:])),
        lambda tx: replace(tx, outputs=(*tx.outputs, TxOut(1, wpkh("one more")))),
        lambda tx: replace(tx, outputs=tuple(replace(o, value=o.value - 1) for o in tx.outputs)),
        lambda tx: replace(tx, outputs=tx.outputs[:1] + tx.outputs[:1]),
        lambda tx: replace(tx, inputs=tuple(TxIn(i.outpoint) for i in tx.inputs) * 9),
    ],
)
def test_a_funding_of_another_form_is_refused(blocks: Blocks, change: Any) -> None:
    receipt = _with_funding(Deal(blocks), change)
    assert refused(receipt.wire(), blocks).field == "funding.transaction"


def test_a_funding_with_its_witnesses_is_refused(blocks: Blocks) -> None:
    receipt = Deal(blocks).receipt()
    tx = parse_transaction("funding", receipt.funding.transaction)
    signed = replace(tx, inputs=tuple(replace(i, witness=(b"\x01",)) for i in tx.inputs))
    bent = replace(receipt.funding, transaction=signed.serialize())
    assert refused(replace(receipt, funding=bent).wire(), blocks).field == "funding.transaction"


# ------------------------------------------------------------------ the chain


def test_what_is_in_no_block_is_refused(blocks: Blocks) -> None:
    receipt = Deal(blocks, mined=False).receipt()
    assert refused(receipt.wire(), blocks).field == "funding.branch"


def test_it_counts_from_six_deep_on(blocks: Blocks) -> None:
    receipt = Deal(blocks).receipt()
    blocks.tip = HEIGHT + 5
    assert str(refused(receipt.wire(), blocks)) == "payout.height: is not 6 deep in our chain"
    blocks.tip += 1
    judged(receipt.wire(), blocks)


@pytest.mark.parametrize("which", ["funding", "payout"])
def test_it_does_not_outlive_a_reorg(blocks: Blocks, which: str) -> None:
    receipt = Deal(blocks).receipt()
    proven = judged(receipt.wire(), blocks)
    assert proven.stands(blocks)
    height = HEIGHT if which == "funding" else HEIGHT + 1
    blocks.reorg(height)
    assert not proven.stands(blocks)
    judged(receipt.wire(), blocks)  # the same transactions in another block: it is shown again
    blocks.reorg(height, drop=getattr(proven, f"{which}_txid"))
    assert refused(receipt.wire(), blocks).field == f"{which}.branch"


def test_the_order_of_heights_is_the_trades(blocks: Blocks) -> None:
    early = Deal(blocks).receipt(anchor_h=HEIGHT)
    assert refused(early.wire(), blocks).field == "funding.height"
    young = Deal(blocks, by=By.BACKUP, kind=KIND_BACKUP, after=144 * 31 - 1).receipt()
    assert refused(young.wire(), blocks).field == "payout.height"


def test_a_transaction_of_64_bytes_proves_nothing(blocks: Blocks) -> None:
    """CVE-2017-12842: the branch ends in the inside of a transaction."""
    receipt = Deal(blocks).receipt()
    inner = Transaction(
        1, (TxIn(replace(receipt.outpoint, vout=0), 0),), (TxOut(1, b"\x51\x51\x51\x51"),), 0
    ).serialize()
    assert len(inner) == 64
    place = replace(receipt.funding, branch=(inner[32:],), position=0)
    refused(replace(receipt, funding=place).wire(), blocks)


# ------------------------------------------------------------------ from one's own journal


def _play(end: str) -> tuple[Play, Split, Branch]:
    play = BoundPlay().acknowledge()
    if end == "released":
        play.say(play.seller, play.received())
        return play, release(play.contract), Branch.MAIN
    if end == "agreed":
        play.bind(play.buyer, 100_000)
        return play, Split(100_000, play.contract.escrow_sat - 100_000, 0), Branch.MAIN
    judge = play.runner_up if end == "backup" else play.arbiter
    play.call_arbiter(play.buyer, judge)
    branch = Branch.BACKUP if end == "backup" else Branch.MAIN
    for who in (play.buyer, play.seller):
        play.say(judge, play.verdict(2_000_000, judge), who.node_id)
    return play, verdict_split(play.contract, 2_000_000, branch), branch


@pytest.mark.parametrize("raised", [0, 1])
@pytest.mark.parametrize("end", ["released", "ruled", "backup"])
def test_each_trader_makes_it_of_his_own_journal(end: str, raised: int) -> None:
    play, split, branch = _play(end)
    rate = payout_rates(play.contract)[raised]
    paid = build_payout(play.contract, play.outpoint, split, rate, branch).tx.txid
    outcome = "released" if end == "released" else "ruled"
    blocks = Blocks()
    height = ANCHOR + 1
    facts = play.facts(play.maker)
    assert facts.funding is not None
    blocks.put(facts.funding.tx.txid, height)
    blocks.put(paid, height + 5000)
    places = [
        (height, 2, blocks.place(facts.funding.tx.txid, height)["branch"]),
        (height + 5000, 2, blocks.place(paid, height + 5000)["branch"]),
    ]
    proven = set()
    for who in (play.maker, play.taker):
        receipt = receipt_of(play.facts(who), Closed(paid, outcome), *places, root=play.root(who))
        proven.add(judged(receipt.wire(), blocks))
        assert receipt.payout.raised == raised
        assert receipt.ended.by == {"released": 0, "ruled": 1, "backup": 2}[end]
    assert len(proven) == 1
    assert proven.pop().outcome == outcome


def test_a_trade_that_ended_otherwise_gives_none() -> None:
    play, split, branch = _play("agreed")
    paid = build_payout(play.contract, play.outpoint, split, None, branch).tx.txid
    nowhere = (1, 0, ())
    for txid, outcome in ((paid, "agreed"), (h("another"), "other")):
        with pytest.raises(LocalFault, match="gives no receipt"):
            receipt_of(
                play.facts(play.maker),
                Closed(txid, outcome),
                nowhere,
                nowhere,
                root=play.root(play.maker),
            )


def test_people_are_who_they_say(blocks: Blocks) -> None:
    """A key without the network's work has no past: nobody can pay for a thousand names."""
    weak = h("no work was done for this one")
    receipt = Deal(blocks).receipt(taker=weak)
    assert refused(receipt.wire(), blocks).field == "taker"


# ------------------------------------------------------------------ fixed bytes


@pytest.mark.parametrize("name", VECTORS)
def test_the_bytes_are_those_of_the_vectors(blocks: Blocks, name: str) -> None:
    """What another implementation must read, and must be refused nothing of."""
    known = VECTORS[name]
    receipt = Receipt.from_wire(bytes.fromhex(known["receipt"]), NET)
    assert receipt.wire().hex() == known["receipt"]
    assert receipt.contract.trade_id.hex() == known["trade_id"]
    assert [who.hex() for who in receipt.parties] == [known["maker"], known["taker"]]
    assert receipt.funding_tx.txid.hex() == known["funding_txid"]
    assert receipt.payout_txid.hex() == known["payout_txid"]
    assert [r.hex() for r in receipt.roots()] == [known["funding_root"], known["payout_root"]]
    made = Deal(blocks, **MADE[name]).receipt()
    assert made.wire().hex() == known["receipt"]  # signatures are deterministic
    assert made.proven(blocks).outcome == known["outcome"]
