"""`p2pnode proposal`: another price than the offer's, proposed and answered.

A proposal is made by `p2pnode trade take --price`; here both sides see and answer it.
"""

from typing import Any, Final

import click

from p2pnode.app.commands.costs import costs, fiat_of, quoted
from p2pnode.app.commands.frame import Session, coins, common, entry, hanging, hex_prefix
from p2pnode.app.commands.offer_view import price, written
from p2pnode.base.units import decimal, moment

_HEAD: Final = f"{'ID':<8}  {'ROLE':<5}  {'YOU':<4}  {'BTC':<10}  {'SUM':>16}  {'PRICE':>13}  STATE"


def path(proposal_id: str, verb: str = "") -> str:
    """Return the API's path of a proposal. Raises InvalidRecord for what cannot be its id."""
    return f"/v1/proposals/{hex_prefix('proposal_id', proposal_id)}{verb}"


@click.group()
def proposal() -> None:
    """Another price than the offer's, proposed and answered."""


@proposal.command("list")
@common
def list_(session: Session) -> None:
    r"""List proposals, newest first, with the next step of each.

    \b
    p2pnode proposal list
    p2pnode proposal list --json | jq -r 'select(.state=="Proposed").proposal_id'
    """
    session.emit_rows(
        session.client.get("/v1/proposals"),
        _HEAD,
        _row,
        "no proposals: `p2pnode trade take OFFER --amount BTC --price …` makes one",
    )


@proposal.command()
@common
@click.argument("proposal_id")
def show(session: Session, proposal_id: str) -> None:
    r"""Show one proposal and what to do next.

    \b
    p2pnode proposal show 3fa2
    """
    answer = session.client.get(path(proposal_id))
    session.emit(answer, *lines(answer))


@proposal.command()
@common
@click.argument("proposal_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(session: Session, proposal_id: str, yes: bool) -> None:
    r"""Agree to the sum that the other side named last.

    As the maker you promise it for the rest of the ten minutes; as the taker you take the
    offer at that sum, and the trade begins.

    \b
    p2pnode proposal accept 3fa2
    p2pnode proposal accept 3fa2 --yes --json
    """
    whole = session.client.get(path(proposal_id))
    quote = session.client.post("/v1/quotes", proposal_id=whole["proposal_id"])
    session.remark("\n".join(costs(quote)))
    maker = whole["role"] == "maker"
    session.confirm("Agree to this sum?" if maker else "Take the offer at this sum?", yes)
    answer = session.client.post(path(whole["proposal_id"], "/accept"))
    session.emit(answer, *lines(answer))


@proposal.command()
@common
@click.argument("proposal_id")
@click.option("--price", "price_text", help="In units of the currency per BTC: 61000.00.")
@click.option("--fiat", "fiat_text", help="The whole sum instead: 305.00.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def counter(
    session: Session,
    proposal_id: str,
    price_text: str | None,
    fiat_text: str | None,
    yes: bool,
) -> None:
    r"""Name another sum.

    As the maker your own, as the taker a new proposal. What a maker names he stands by for
    the rest of the ten minutes. A taker may propose three times in all.

    \b
    p2pnode proposal counter 3fa2 --price 61000
    p2pnode proposal counter 3fa2 --fiat 305.00
    """
    whole = session.client.get(path(proposal_id))
    fiat_minor = fiat_of(whole, whole["amount_sat"], price_text, fiat_text)
    words = f"{decimal(fiat_minor, whole['exponent'])} {whole['currency']}"
    session.confirm(f"Name {words} for {coins(whole['amount_sat'])} BTC?", yes)
    answer = session.client.post(path(whole["proposal_id"], "/counter"), fiat_minor=fiat_minor)
    session.emit(answer, *lines(answer))


@proposal.command()
@common
@click.argument("proposal_id")
@click.option("--reason", default="no, thank you", help="What the other side is told.")
def refuse(session: Session, proposal_id: str, reason: str) -> None:
    r"""Say no; the offer itself stays as it is.

    \b
    p2pnode proposal refuse 3fa2 --reason "too low"
    """
    answer = session.client.post(path(proposal_id, "/refuse"), reason=reason)
    session.emit(answer, *lines(answer))


def _row(answer: dict[str, Any]) -> str:
    row = (
        f"{answer['proposal_id'][:8]}  {answer['role']:<5}  "
        f"{'sell' if answer['seller'] else 'buy':<4}  {coins(answer['amount_sat']):<10}  "
        f"{quoted(answer):>16}  {price(answer):>13}  {answer['state']}"
    )
    return row + "\n" + hanging(f"{'':<8}  next: ", answer["next"])


def lines(answer: dict[str, Any]) -> list[str]:
    """Write one proposal."""
    verb = "SELL" if answer["seller"] else "BUY"
    peer = "taker" if answer["role"] == "maker" else "maker"
    found = [
        f"Proposal {answer['proposal_id'][:8]}   {verb} {coins(answer['amount_sat'])} BTC for "
        f"{quoted(answer)}",
        entry("state", f"{answer['state']}, round {answer['round']} of 3"),
        entry("price", f"{price(answer)} {answer['currency']}/BTC{_against(answer)}"),
        entry(peer, answer["peer"]),
    ]
    for n, said in enumerate(answer["said"]):
        who = "you" if said["mine"] else f"the {peer}"
        words = f"{decimal(said['fiat_minor'], answer['exponent'])} {answer['currency']}"
        verb = "proposed" if said["kind"] == "PROPOSE" else "named"
        found.append(entry("" if n else "said", f"{who} {verb} {words}"))
    found.append(entry("until", moment(answer["until"])))
    if answer["trade_id"]:
        found.append(entry("trade", answer["trade_id"]))
    found.append(entry("next", answer["next"]))
    return found


def _against(answer: dict[str, Any]) -> str:
    """Say how far the sum is from the offer's price."""
    offered = answer["offer_price"]
    bp = (answer["price"] - offered) * 10_000 // offered
    sign = "+" if bp > 0 else "-" if bp < 0 else ""
    return f", the offer's {written(offered, answer['exponent'])} {sign}{decimal(abs(bp), 2)} %"
