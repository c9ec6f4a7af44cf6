"""A thief's receipts: pasts that are lent, bent bytes, and words of the history protocol."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receipt_kit import DAY_BLOCKS, NET, Blocks, Deal, deal, who

from escrow import shell_history
from escrow.receipt import Receipt
from p2pnode.base.errors import InvalidRecord


def resold(blocks: Blocks, first: Deal, receipt: Receipt, maker: str, taker: str) -> Receipt:
    """Sign the trade of `first` again, between other names: both its escrow keys are one hand's."""

    class Again(Deal):
        @property
        def name(self) -> str:
            return first.name

    again = Again(blocks, maker, taker, first.height)
    for cents in range(2000):  # until the funding's order is the contract's, too
        names = {"maker": who(maker), "taker": who(taker), "trade_id": receipt.contract.trade_id}
        contract = first.contract(**names, fiat_minor=60_000 + cents)
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


def test_one_trade_on_the_chain_is_no_past_for_other_names() -> None:
    """A thief with both escrow keys of an old trade signs it again: its key names its TAKE."""
    blocks = Blocks()
    first = Deal(blocks, "old", "partner", 30 * DAY_BLOCKS)
    real = first.receipt()
    assert real.proven(blocks).parties == (who("old"), who("partner"))
    lent = resold(blocks, first, real, "fresh", "made up")
    with pytest.raises(InvalidRecord, match="take: is not the TAKE whose id"):
        lent.proven(blocks)


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
