"""A trade on the stage, from the offer to a payout six blocks deep; the dispute in between.

Both sides are watched: a scene ends when both see it. The demo's own numbers stand here.
"""

from dataclasses import dataclass
from typing import Any, Final

from p2pnode.app.demo import ledger
from p2pnode.app.demo.ledger import Deal, Payout
from p2pnode.app.demo.processes import CommandFailed, ProcessFault
from p2pnode.app.demo.stage import CURRENCY, MAKER, TAKER, Stage
from p2pnode.base.units import decimal, parse_decimal

PRICE: Final = "61240.00"
LOW: Final = "0.005"
HIGH: Final = "0.02"  # the offer's bounds, and the amounts of the two trades
RULING: Final = "0.01"  # what the verdict gives the buyer; RELEASE would give him more
FINAL_DEPTH: Final = 6
DAY_S: Final = 86_400
MEDIAN_BLOCKS: Final = 6  # a block's time is the chain's median time this much later
PAID_WORDS: Final = "I paid on Monday."
SELLER_WORDS: Final = "Nothing came."


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trade ended: what its contract says, and what was seen."""

    deal: Deal
    due: Payout
    line: dict[str, Any]

    @property
    def end(self) -> tuple[Deal, Payout]:
        """Contract and payout due."""
        return self.deal, self.due


def play_released(stage: Stage) -> Ending:
    """Trade LOW; the buyer pays, the seller says so, the payout is final."""
    trade_id = _take(stage, LOW)
    deal = _fund(stage, trade_id)
    _pay(stage, trade_id)
    stage.net.cli(MAKER, "trade", "received", trade_id, "--yes")
    stage.show.step("received", MAKER, "the seller: the money is in; he signs the payout")
    return _close(stage, deal, ledger.released(deal), TAKER, "completes the payout")


def play_ruled(stage: Stage) -> Ending:
    """Trade HIGH; the seller denies, both speak, the arbiter rules below a release."""
    trade_id = _take(stage, HIGH)
    deal = _fund(stage, trade_id)
    _pay(stage, trade_id)
    _dispute(stage, deal)
    _refuse_early(stage, deal)
    _pass_deadline(stage, deal)
    stage.show.doing(deal.arbiter, "rules")
    stage.net.cli(deal.arbiter, *_ruling(deal))
    fee = deal.arbiter_fee_sat
    stage.show.step("verdict", deal.arbiter, f"rules: {RULING} BTC to the buyer, his fee {fee} sat")
    stage.trade(MAKER, trade_id, "the verdict", lambda t: t["state"] == "Ruled")
    stage.net.cli(MAKER, "dispute", "accept", trade_id, "--yes")
    stage.show.step("accept", MAKER, "takes the verdict: it is less than he claims, and enough")
    payout = ledger.ruled(deal, parse_decimal("buyer", RULING, 8))
    return _close(stage, deal, payout, MAKER, "completes the verdict's payout")


# ------------------------------------------------------------------ offer to escrow


def _take(stage: Stage, amount: str) -> str:
    """Publish an offer, find it, take it; return the trade's id."""
    net, show = stage.net, stage.show
    show.doing(MAKER, "signs and publishes an offer")
    words = ("offer", "create", "--sell", "--cur", CURRENCY, "--account", "bank")
    offer_id = net.cli(MAKER, *words, "--min", LOW, "--max", HIGH, "--price", PRICE)["offer_id"]
    show.step("offer", MAKER, f"signs an offer: {LOW} to {HIGH} BTC at {PRICE} {CURRENCY}")
    show.doing(TAKER, "looks for offers in the DHT")

    def listed() -> list[str]:
        return [row["offer_id"] for row in net.rows(TAKER, "offer", "list", "--cur", CURRENCY)]

    net.until(TAKER, "finds the offer", listed, lambda found: offer_id in found)
    show.step("find", TAKER, f"finds it through the DHT: offer {offer_id[:8]}")
    show.doing(TAKER, "takes it")
    take = ("trade", "take", offer_id, "--amount", amount, "--account", "bank", "--yes")
    trade_id: str = net.cli(TAKER, *take)["trade_id"]
    show.step("take", TAKER, f"takes {amount} BTC of it: trade {trade_id[:8]}")
    return trade_id


def _fund(stage: Stage, trade_id: str) -> Deal:
    """Follow a trade from TAKE to an escrow deep enough to pay; return its contract."""
    show = stage.show
    show.doing(TAKER, "both commit and reveal, and draw the arbiter")
    drawn = stage.trade(TAKER, trade_id, "the draw", lambda t: t.get("arbiter"))["arbiter"]
    client = stage.net.client(MAKER)
    stage.net.until(
        MAKER,
        "learns of the trade",
        lambda: [t["trade_id"] for t in client.get("/v1/trades")],
        lambda known: trade_id in known,
    )
    theirs = stage.trade(MAKER, trade_id, "the draw", lambda t: t.get("arbiter"))["arbiter"]
    if drawn != theirs:
        raise ProcessFault(MAKER, f"drew arbiter {theirs[:16]}…, the taker drew {drawn[:16]}…")
    name = stage.names[drawn]
    show.step("draw", name, f"is drawn by his bond of {stage.bonds[name]} BTC, the same for both")
    stage.begin_check(TAKER, trade_id, drawn)
    show.doing(TAKER, "both build and sign the joint funding")
    for side in (TAKER, MAKER):
        trade = stage.trade(side, trade_id, "the funding", lambda t: t["state"] == "Broadcast")
    deal = Deal.of(trade, stage.names)
    text = f"both sign: {decimal(deal.escrow_sat, 8).rstrip('0')} BTC into escrow"
    show.step("escrow", MAKER, text, deal.escrow_txid)
    stage.mine(trade["depth"], "the escrow is deep enough")
    show.doing(TAKER, "waits for the seller's payment details")
    what = "the seller's payment details"
    trade = stage.trade(TAKER, trade_id, what, lambda t: t["state"] == "Funded" and _told(t))
    show.step("account", TAKER, f"reads where to pay {_fiat(trade)}")
    return deal


def _told(trade: dict[str, Any]) -> bool:
    return "peer_account" in trade


def _fiat(trade: dict[str, Any]) -> str:
    return f"{decimal(trade['fiat_minor'], trade['exponent'])} {trade['currency']}"


def _pay(stage: Stage, trade_id: str) -> None:
    stage.net.cli(TAKER, "trade", "pay-sent", trade_id, "--note", trade_id[:8], "--yes")
    stage.show.step("pay-sent", TAKER, "the buyer: the money is on its way")
    stage.trade(MAKER, trade_id, "the buyer's PAID", lambda t: t["state"] == "Paid")


# ------------------------------------------------------------------ the dispute


def _dispute(stage: Stage, deal: Deal) -> None:
    net, show, trade_id = stage.net, stage.show, deal.trade_id
    net.cli(TAKER, "dispute", "open", trade_id, "--statement", PAID_WORDS, "--yes")
    show.step("dispute", TAKER, f"calls the arbiter: “{PAID_WORDS}”")
    show.doing(deal.arbiter, "checks contract, draw and messages")
    for name in (MAKER, TAKER):
        stage.trade(name, trade_id, "the arbiter's notice", lambda t: t.get("notice"))
    show.step("notice", deal.arbiter, "has checked the papers and tells both sides")
    net.cli(MAKER, "dispute", "answer", trade_id, "--statement", SELLER_WORDS)
    show.step("statement", MAKER, f"answers: “{SELLER_WORDS}”")
    what = "both statements"
    stage.ask(deal.arbiter, what, f"/v1/cases/{trade_id}", lambda c: c["state"] == "Hearing")


def _ruling(deal: Deal) -> tuple[str, ...]:
    words = ("arbiter", "decide", deal.trade_id, "--buyer", RULING)
    return (*words, "--reason", "No payment was shown.", "--yes")


def _refuse_early(stage: Stage, deal: Deal) -> None:
    """Show that less than RELEASE is refused while the buyer may still be paying (R4)."""
    try:
        stage.net.cli(deal.arbiter, *_ruling(deal))
    except CommandFailed as fault:
        if "by the chain's clock" not in fault.error["message"]:
            raise
    else:
        raise ProcessFault(deal.arbiter, "signed less than a release before its time")
    text = f"may not rule {RULING} BTC yet: refused until the deadline"
    stage.show.step("refused", deal.arbiter, text)


def _pass_deadline(stage: Stage, deal: Deal) -> None:
    path = f"/v1/cases/{deal.trade_id}"
    case = stage.ask(deal.arbiter, "knows the deadline", path, lambda c: "mtp" in c)
    wait_s = case["below_release_from_mtp"] - case["mtp"]
    stage.mine(-(-wait_s // DAY_S) + MEDIAN_BLOCKS, f"{-(-wait_s // DAY_S)} days pass", DAY_S)
    what = "sees the deadline pass"
    stage.ask(deal.arbiter, what, path, lambda c: c["mtp"] >= c["below_release_from_mtp"])


# ------------------------------------------------------------------ payout


def _close(stage: Stage, deal: Deal, due: Payout, who: str, what: str) -> Ending:
    """Follow the payout until it is final for both; return how it ended."""
    show, trade_id = stage.show, deal.trade_id
    show.doing(who, what)
    seen = stage.trade(who, trade_id, "the payout", lambda t: t.get("payout_txid"))
    txid = seen["payout_txid"]
    show.step("payout", who, what, txid)
    stage.mine(FINAL_DEPTH, "the payout is final")
    for name in (deal.buyer, deal.seller):
        trade = stage.trade(name, trade_id, "a final payout", lambda t: t["state"] == "Closed")
    buyer_sat, seller_sat = _paid(stage, deal.buyer, txid), _paid(stage, deal.seller, txid)
    fee_sat = deal.escrow_sat - buyer_sat - seller_sat - due.arbiter_sat
    for name, sat, right in (
        (deal.buyer, buyer_sat, due.buyer_sat),
        (deal.seller, seller_sat, due.seller_sat),
    ):
        if sat != right:
            raise ProcessFault(name, f"was paid {sat} sat where the contract says {right}")
    show.step(
        "closed", deal.seller, f"{trade['outcome']}: buyer {buyer_sat}, seller {seller_sat} sat"
    )
    line = {
        "trade_id": trade_id,
        "outcome": trade["outcome"],
        "arbiter": deal.arbiter_id,
        "escrow_txid": deal.escrow_txid,
        "payout_txid": txid,
        "buyer_sat": buyer_sat,
        "seller_sat": seller_sat,
        "fee_sat": fee_sat,
    }
    return Ending(deal, due, line)


def _paid(stage: Stage, name: str, txid: str) -> int:
    """Return what a transaction brought a node, by the history of its own wallet."""
    client = stage.net.client(name)
    history = stage.net.until(
        name,
        "sees its part of the payout",
        lambda: client.get("/v1/wallet/history"),
        lambda rows: any(row["txid"] == txid and row["height"] for row in rows),
    )
    return sum(row["amount_sat"] for row in history if row["txid"] == txid)
