"""`p2pnode arbiter`: volunteer, and judge the cases that the draw sends."""

from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, coins, common, entry, hanging, hex_prefix
from p2pnode.app.commands.trade import btc, fiat
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import moment, parse_decimal

_CASES: Final = f"{'CASE':<10} {'STATE':<11} {'BY':<7} {'BTC':>12} {'FIAT':>16}"
_TOLD: Final = {
    "account_seller": "to pay to",
    "account_buyer": "paid from",
    "paid_note": "reference",
}
_KNOWN: Final = f"{'NODE':<18} {'FEE sat':>8} {'FEE ppm':>8} {'AT':>8}"


@click.group()
def arbiter() -> None:
    """Judge disputes as a volunteer."""


@arbiter.command()
@common
@click.option("--fee-base", "fee_base", default=1000, show_default=True, help="Satoshi a verdict.")
@click.option(
    "--fee-ppm", "fee_ppm", default=1000, show_default=True, help="Millionths of the amount."
)
def register(session: Session, fee_base: int, fee_ppm: int) -> None:
    r"""Consent to be drawn as an arbiter.

    Publishes your record and keeps it fresh while the node runs.

    \b
    p2pnode arbiter register --fee-base 2000 --fee-ppm 2500
    """
    answer = session.client.post("/v1/arbiter", fee_base_sat=fee_base, fee_ppm=fee_ppm)
    session.emit(answer, f"registered: {answer['holders']} nodes hold the record")
    if not answer["holders"]:
        session.remark("no node has taken it yet; the daemon goes on trying")


@arbiter.command()
@common
def status(session: Session) -> None:
    r"""Show your record and what you have earned.

    \b
    p2pnode arbiter status
    """
    answer = session.client.get("/v1/arbiter")
    earned = f"earned {btc(answer['earned_sat'])} BTC, not withdrawn yet"
    if answer["earned_pending_sat"]:
        earned += f"; {btc(answer['earned_pending_sat'])} BTC pending"
    if not answer["registered"]:
        session.emit(answer, "not registered: p2pnode arbiter register", earned)
        return
    fees = f"{answer['fee_base_sat']} sat and {answer['fee_ppm']} ppm a verdict"
    held = f"{answer['holders']} nodes hold it, named block {answer['at_height']}"
    session.emit(answer, f"registered: {fees}", held, earned)


@arbiter.command()
@click.option("--rate", type=click.IntRange(1, 500), help="sat/vB [default: the server's estimate]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def withdraw(session: Session, rate: int | None, yes: bool) -> None:
    r"""Send the fees you have earned to your wallet.

    \b
    p2pnode arbiter withdraw
    p2pnode arbiter withdraw --rate 3 --yes
    """
    earned = btc(session.client.get("/v1/arbiter")["earned_sat"])
    session.confirm(f"Send the {earned} BTC earned, less the network fee, to your wallet?", yes)
    body = {} if rate is None else {"rate": rate}
    answer = session.client.post("/v1/arbiter/withdraw", **body)
    session.emit(answer, answer["txid"])
    session.remark(f"withdrew {btc(answer['amount_sat'])} BTC; it counts once confirmed")


@arbiter.command("list")
@common
def list_(session: Session) -> None:
    r"""List the arbiters that the network knows.

    \b
    p2pnode arbiter list
    """

    def row(a: dict[str, Any]) -> str:
        return f"{a['node_id'][:16]}…  {a['fee_base_sat']:>8} {a['fee_ppm']:>8} {a['at_height']:>8}"

    found = session.client.get("/v1/arbiters")
    session.emit_rows(found, _KNOWN, row, "no arbiters: nobody has registered")


@arbiter.command()
@common
def cases(session: Session) -> None:
    r"""List the cases that you were called to, oldest first.

    \b
    p2pnode arbiter cases
    p2pnode arbiter cases --json | jq -r 'select(.state=="Hearing").trade_id'
    """

    def row(c: dict[str, Any]) -> str:
        return (
            f"{c['trade_id'][:8]:<10} {c['state']:<11} {c['opener']:<7} "
            f"{btc(c['amount_sat']):>12} {fiat(c):>16}"
            "\n" + hanging(f"{'':<10} next: ", c["next"])
        )

    session.emit_rows(session.client.get("/v1/cases"), _CASES, row, "no cases")


@arbiter.command()
@common
@click.argument("case")
def show(session: Session, case: str) -> None:
    r"""Show one case with its statements.

    Contract, draw and message chains were checked before it got here; --json adds the list
    of the papers that each trader has shown.

    \b
    p2pnode arbiter show 7f3a91
    """
    _show(session, session.client.get(_path(case)))


@arbiter.command()
@common
@click.argument("case")
@click.option("--buyer", required=True, metavar="BTC", help="What the buyer gets of the escrow.")
@click.option("--reason", required=True, help="Why; both traders read it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def decide(session: Session, case: str, buyer: str, reason: str, yes: bool) -> None:
    r"""Rule on a case.

    So much of the escrow to the buyer, your fee to you, the rest to the seller; either of
    them can then take it to the chain. It is final.

    \b
    p2pnode arbiter decide 7f3a91 --buyer 0.0015 --reason "No payment was shown."
    """
    buyer_sat = parse_decimal("buyer", buyer, 8)
    found = session.client.get(_path(case))
    rest = found["escrow_sat"] - found["fee_sat"] - buyer_sat
    if rest < 0:
        raise InvalidRecord("buyer", f"there are {coins(rest + buyer_sat)} BTC to divide")
    session.remark(
        f"buyer {btc(buyer_sat)} BTC, seller {btc(rest)} BTC, you {btc(found['fee_sat'])} BTC;\n"
        "the network fee comes off the larger share"
    )
    session.confirm("Sign this verdict? It is final.", yes)
    answer = session.client.post(_path(case, "/decide"), buyer_sat=buyer_sat, reason=reason)
    _show(session, answer)


def _path(case: str, verb: str = "") -> str:
    return f"/v1/cases/{hex_prefix('case', case)}{verb}"


def _show(session: Session, c: dict[str, Any]) -> None:
    deposits = f"buyer {coins(c['deposit_buyer_sat'])}, seller {coins(c['deposit_seller_sat'])} BTC"
    lines = [
        f"Case {c['trade_id'][:8]}   {c['state']}, opened by the {c['opener']}",
        entry("trade", f"{btc(c['amount_sat'])} BTC for {fiat(c)}"),
        entry("escrow", f"{btc(c['escrow_sat'])} BTC, your fee {coins(c['fee_sat'])} BTC"),
        entry("deposits", deposits),
        *(entry(head, c[name]) for name, head in _TOLD.items() if c.get(name)),
        entry("buyer", c["statement_buyer"] or "(no statement yet)"),
        entry("seller", c["statement_seller"] or "(no statement yet)"),
    ]
    if c["signed_twice"]:
        both = " and the ".join(c["signed_twice"])
        lines.append(entry("beware", f"the {both} signed two different messages of one number"))
    if "buyer_sat" in c:
        shares = f"buyer {btc(c['buyer_sat'])}, seller {btc(c['seller_sat'])}"
        lines.append(entry("verdict", f"{shares}, you {btc(c['fee_sat'])} BTC"))
    elif "below_release_from_mtp" in c and c["state"] in {"Noticed", "Hearing"}:
        release = coins(c["amount_sat"] + c["deposit_buyer_sat"])
        since = moment(c["below_release_from_mtp"])
        lines.append(entry("chain", f"{moment(c['mtp'])} by its clock"))
        lines.append(entry("ruling", f"under {release} BTC for the buyer not before {since}"))
    if c["note"]:
        lines.append(entry("note", c["note"]))
    session.emit(c, *lines, entry("next", c["next"]))
