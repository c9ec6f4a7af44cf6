"""`p2pnode trade ask`, `agree`, `decline`: another split of the escrow than the trade's own end."""

import click

from p2pnode.app.commands.frame import Session, coins, common, hex_prefix
from p2pnode.app.commands.trade_view import PLACES, path, show_trade
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.units import parse_decimal


@click.command()
@common
@click.argument("trade_id")
@click.option("--refund", is_flag=True, help="Each side gets back what it locked.")
@click.option("--buyer", metavar="BTC", help="What the buyer gets; the seller gets the rest.")
@click.option("--withdraw", is_flag=True, help="Take your open proposal back.")
@click.option("--note", default="", help="Why; the other side reads it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def ask(
    session: Session,
    trade_id: str,
    refund: bool,
    buyer: str | None,
    withdraw: bool,
    note: str,
    yes: bool,
) -> None:
    r"""Propose another end: a refund, or so much to the buyer.

    It binds you until the other side has answered, or has seen that you withdrew it: as the
    buyer you cannot say that you paid meanwhile. Nothing is paid out before he agrees.

    \b
    p2pnode trade ask 7f3a91 --refund
    p2pnode trade ask 7f3a91 --buyer 0.0031 --note "half of the amount"
    p2pnode trade ask 7f3a91 --withdraw
    """
    if refund + (buyer is not None) + withdraw != 1:
        raise click.UsageError("say one of --refund, --buyer BTC and --withdraw.")
    if withdraw:
        show_trade(session, session.client.post(path(trade_id, "/ask/withdraw")))
        return
    hex_prefix("trade_id", trade_id)
    buyer_sat = None if buyer is None else parse_decimal("buyer", buyer, PLACES)
    found = session.client.get(path(trade_id))
    if "escrow_sat" not in found:
        raise LocalFault("nothing is in escrow yet: `trade cancel` stops the trade")
    if buyer_sat is None:
        buyer_sat = int(found["deposit_buyer_sat"])
    rest = found["escrow_sat"] - buyer_sat
    if rest < 0:
        raise InvalidRecord("buyer", f"there are {coins(found['escrow_sat'])} BTC to divide")
    session.remark(
        f"buyer {coins(buyer_sat)} BTC, seller {coins(rest)} BTC;\n"
        "the network fee comes off the larger share"
    )
    session.confirm("Propose this? It binds you until he has answered.", yes)
    answer = session.client.post(path(trade_id, "/ask"), buyer_sat=buyer_sat, note=note)
    show_trade(session, answer)


@click.command()
@common
@click.argument("trade_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def agree(session: Session, trade_id: str, yes: bool) -> None:
    r"""Agree to the other side's proposal, for good.

    \b
    p2pnode trade agree 7f3a91
    """
    found = session.client.get(path(trade_id))
    theirs = (a for a in found.get("asks", ()) if a["asker"] != found["role"])
    open_one = next((a for a in theirs if a["standing"] == "open"), None)
    if open_one is None:
        raise LocalFault("the other side has no open proposal in this trade", field="trade_id")
    shares = f"buyer {coins(open_one['buyer_sat'])}, seller {coins(open_one['seller_sat'])}"
    session.confirm(f"Agree to the other side's proposal ({shares} BTC)? It is final.", yes)
    answer = session.client.post(path(trade_id, "/agree"), ask_id=open_one["ask_id"])
    show_trade(session, answer)


@click.command()
@common
@click.argument("trade_id")
@click.option("--note", default="", help="Why not; the other side reads it.")
def decline(session: Session, trade_id: str, note: str) -> None:
    r"""Decline the other side's proposal; his node then withdraws it.

    \b
    p2pnode trade decline 7f3a91 --note "I have paid already"
    """
    answer = session.client.post(path(trade_id, "/decline"), note=note)
    session.remark("declined: the proposal is gone once his node has read it")
    show_trade(session, answer)
