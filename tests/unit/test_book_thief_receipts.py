"""A thief's receipts: pasts that are lent, bent bytes, and words of the history protocol."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receipt_kit import DAY_BLOCKS, NET, Blocks, Deal, deal, who

from escrow import shell_history
from escrow.receipt import Receipt
from escrow.shell_standing import Standing
from escrow.standing import SOLD, sold
from escrow.store_receipts import ReceiptStore
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.history import NONE
from p2pnode.base.ports import Tip
from p2pnode.base.store import Database

ME = who("ourselves")


class Seen:
    """Our chain, as `Standing` asks it."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self.block_hash, self.merkle_root, self.mtp = (
            blocks.block_hash,
            blocks.merkle_root,
            blocks.mtp,
        )

    def tip(self) -> Tip:
        tip = self._blocks.tip
        return Tip(tip, self._blocks.block_hash(tip) or b"", self._blocks.now)


def resold(blocks: Blocks, first: Deal, receipt: Receipt, maker: str, taker: str) -> Receipt:
    """Sign the trade of `first` again, between other names: both its escrow keys are one hand's."""

    class Again(Deal):
        @property
        def name(self) -> str:
            return first.name

    again = Again(blocks, maker, taker, first.height)
    for cents in range(2000):  # until the funding's order is the contract's, too
        contract = first.contract(maker=who(maker), taker=who(taker), fiat_minor=60_000 + cents)
        made = replace(receipt, contract=contract)
        try:
            assert made.payout_txid
        except InvalidRecord:
            continue
        return replace(
            made,
            maker=again.said(contract, maker),
            taker=again.said(contract, taker),
            ended=again.end(contract),
        )
    raise AssertionError("no contract fits the funding's order")


def shown(blocks: Blocks, *receipts: tuple[str, Receipt]) -> Standing:
    store = ReceiptStore(Database(None))
    for name, receipt in receipts:
        store.keep(who(name), [(receipt.wire()[:32], receipt.proven(blocks))], 5)
    return Standing(store, Seen(blocks), ME)  # type: ignore[arg-type]


def test_one_trade_on_the_chain_is_no_past_for_two_names() -> None:
    """The chain commits to the escrow's keys and to no names, so a past could be lent out."""
    blocks = Blocks()
    first = Deal(blocks, "old", "partner", 30 * DAY_BLOCKS)
    real = first.receipt()
    lent = resold(blocks, first, real, "fresh", "made up")
    assert shown(blocks, ("fresh", lent)).history(who("fresh")).trades == 1  # by itself it holds
    standing = shown(blocks, ("old", real), ("fresh", lent))
    for name in ("old", "fresh"):
        assert standing.history(who(name)) == NONE
        assert [w.why for w in standing.weighed(who(name))] == [SOLD]
    assert standing.age(who("made up")) == 0  # nor does it make its names old
    honest = deal(blocks, "honest", "partner of his", 40)
    mixed = shown(blocks, ("old", real), ("fresh", lent), ("honest", honest))
    assert mixed.history(who("honest")).trades == 1


def test_a_receipt_of_both_traders_is_one_contract_and_sold_to_nobody() -> None:
    blocks = Blocks()
    both = deal(blocks, "a", "b", 40)
    assert sold([both.proven(blocks), both.proven(blocks)]) == frozenset()
    standing = shown(blocks, ("a", both), ("b", both))
    assert standing.weighed(who("a"))[0].why != SOLD


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=200))
def test_bytes_that_are_no_words_of_the_history_protocol_are_refused(raw: bytes) -> None:
    for read in (shell_history.read_ask, shell_history.read_answer):
        try:
            read(raw)
        except InvalidRecord:
            continue


RAW = deal(Blocks(), "a", "b", 40).wire()


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(RAW) - 1), byte=st.integers(1, 255), cut=st.integers(0, len(RAW)))
def test_a_receipt_with_one_byte_changed_or_cut_proves_nothing(
    at: int, byte: int, cut: int
) -> None:
    blocks = Blocks()
    assert deal(blocks, "a", "b", 40).wire() == RAW
    bent = RAW[:at] + bytes([RAW[at] ^ byte]) + RAW[at + 1 :]
    for raw in (bent, RAW[:cut]):
        if raw == RAW:
            continue
        with pytest.raises(InvalidRecord):
            Receipt.decoded(raw, NET).proven(blocks)
