"""How a trade looks to its user: what the commands of `trade`, `dispute` and `arbiter` share."""

from typing import Any, Final

from p2pnode.app.commands.frame import Session, entry, hex_prefix
from p2pnode.base.units import decimal, moment

PLACES: Final = 8


def btc(sat: int) -> str:
    """Write satoshi as people read them."""
    return decimal(sat, PLACES)


def fiat(answer: dict[str, Any]) -> str:
    """Write the counter-payment as people read it."""
    return f"{decimal(answer['fiat_minor'], answer['exponent'])} {answer['currency']}"


def path(trade_id: str, verb: str = "") -> str:
    """Return the API's path of a trade. Raises InvalidRecord for what cannot be its id."""
    return f"/v1/trades/{hex_prefix('trade_id', trade_id)}{verb}"


def show_trade(session: Session, answer: dict[str, Any]) -> None:
    """Show one trade: where it stands, what was said, what to do next and by when."""
    short = answer["trade_id"][:8]
    lines = [f"Trade {short}   {answer['state']}"]
    if "amount_sat" in answer:
        verb = "BUY" if answer["role"] == "buyer" else "SELL"
        lines[0] = f"Trade {short}   {verb} {btc(answer['amount_sat'])} BTC for {fiat(answer)}"
        lines.append(entry("state", answer["state"]))
    if "peer" in answer:
        peer = "seller" if answer["role"] == "buyer" else "buyer"
        lines.append(entry(peer, f"{answer['peer'][:16]}…"))
    if "escrow_address" in answer:
        lines += _escrow(answer)
    if "peer_account" in answer:
        whose = "pay to" if answer["role"] == "buyer" else "paid from"
        lines.append(entry(whose, answer["peer_account"]))
    lines += deadlines(answer)
    lines += verdict(answer)
    if answer.get("payout_txid"):
        seen = answer["payout_confirmations"]
        lines.append(entry("payout", f"{seen} of 6 confirmations" if seen < 6 else "confirmed"))
        lines.append(entry("", answer["payout_txid"]))
    lines += proposals(answer)
    lines += proofs(answer)
    if answer.get("recused"):
        lines.append(entry("recused", f"the arbiter will not judge this: {answer['recused']}"))
    if answer.get("unread"):
        lines.append(entry("unread", unread(answer)))
    if answer.get("remark"):
        lines.append(entry("your note", answer["remark"]))
    if answer["note"]:
        lines.append(entry("note", answer["note"]))
    session.emit(answer, *lines, entry("next", answer["next"]))


def unread(answer: dict[str, Any]) -> str:
    """Say how many words of others nobody has read yet, and how they are read."""
    count = answer["unread"]
    words = f"{count} message{'' if count == 1 else 's'}"
    return f"{words}: p2pnode trade chat {answer['trade_id'][:8]}"


def _escrow(answer: dict[str, Any]) -> list[str]:
    """Write where the bitcoin is, and who was drawn to judge."""
    have, wanted = answer.get("confirmations", 0), answer["depth"]
    count = f"{have} of {wanted}" if have < wanted else str(have)
    depth = f"{count} confirmation{'' if count == '1' else 's'}"
    lines = [
        entry("escrow", f"{btc(answer['escrow_sat'])} BTC, {depth}"),
        entry("", answer["escrow_address"]),
        entry("arbiter", f"{answer['arbiter'][:16]}… (drawn, verified here)"),
    ]
    if "backup" in answer.get("escrow_kind", ""):
        lines.append(entry("runner-up", f"{answer['runner_up'][:16]}…"))
    return lines


def verdict(answer: dict[str, Any]) -> list[str]:
    """Write who ruled, what each gets, and why."""
    if "verdict" not in answer:
        return []
    ruled = answer["verdict"]
    whose = ", by the runner-up" if ruled.get("by", "") == answer.get("runner_up") else ""
    shares = f"buyer {btc(ruled['buyer_sat'])}, seller {btc(ruled['seller_sat'])} BTC{whose}"
    return [entry("verdict", shares), entry("", ruled["reason"])]


def proposals(answer: dict[str, Any]) -> list[str]:
    """Write the proposals of another split that are open, withdrawn in flight or agreed."""
    lines = []
    for a in answer.get("asks", ()):
        if a["standing"] == "free" and not a["declined"]:
            continue
        whose = "you" if a["asker"] == answer["role"] else f"the {a['asker']}"
        shares = f"buyer {btc(a['buyer_sat'])}, seller {btc(a['seller_sat'])} BTC"
        standing = a["standing"] if a["declined"] is None else "declined"
        lines.append(entry(standing, f"{whose} proposed: {shares}"))
        lines += [entry("", note) for note in (a["note"], a["declined"]) if note]
    return lines


def proofs(answer: dict[str, Any]) -> list[str]:
    """Write who is proven to have signed two things, and where to see it."""
    found = answer.get("proofs", ())
    lines = [entry("proven", f"the {p['by']} signed {p['what']}") for p in found]
    if lines:
        lines.append(entry("", f"see p2pnode proof show {answer['trade_id'][:8]}"))
    return lines


def deadlines(answer: dict[str, Any]) -> list[str]:
    """Write what falls due in a funded trade; the chain's clock decides, not ours."""
    state, now = answer["state"], answer.get("mtp", 0)
    if "pay_by_mtp" not in answer or state not in {"Funded", "Paid", "Disputed", "ArbiterLost"}:
        return []

    def until(seconds: int) -> str:
        return f"by {moment(seconds)}" + (": over" if now >= seconds else "")

    lines = [entry("chain", f"{moment(now)} by its clock; the dates below go by it")]
    if state == "Funded":
        lines.append(entry("payment", until(answer["pay_by_mtp"])))
    for due in answer.get("due", ()):
        if due["what"] == "details":
            lines.append(entry("details", f"exchanged {until(due['by_mtp'])}"))
        if due["what"] in {"reply", "ruling"}:
            lines.append(entry(due["what"], until(due["by_mtp"])))
    since = answer["ruling_below_release_from_mtp"]
    if now < since:
        lines.append(entry("verdict", f"less than all to the buyer: not before {moment(since)}"))
    return lines
