"""`p2pnode arbiter`: volunteer, and judge the cases that the draw sends.

What is done with one case stands in arbiter_hearing.
"""

from typing import Any, Final

import click

from p2pnode.app.commands.arbiter_bond import bond
from p2pnode.app.commands.arbiter_hearing import chat, decide, evidence, queue, recuse, show
from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.app.commands.trade_view import btc, fiat

_CASES: Final = f"{'CASE':<10} {'STATE':<11} {'BY':<7} {'BTC':>12} {'FIAT':>16}"
_KNOWN: Final = f"{'NODE':<18} {'FEE sat':>8} {'FEE ppm':>8} {'BLOCK':>8} {'WEIGHT':>14}"


@click.group()
def arbiter() -> None:
    """Judge disputes as a volunteer."""


arbiter.add_command(bond)


for _command in (queue, show, decide, recuse, chat, evidence):
    arbiter.add_command(_command)


@arbiter.command()
@common
@click.option("--fee-base", "fee_base", default=1000, show_default=True, help="Satoshi a verdict.")
@click.option(
    "--fee-ppm", "fee_ppm", default=1000, show_default=True, help="Millionths of the amount."
)
def register(session: Session, fee_base: int, fee_ppm: int) -> None:
    r"""Consent to be drawn as an arbiter.

    Publishes your record and keeps it fresh while the node runs. With a bond that is old enough
    the record shows it, and is drawn by its weight; a public network asks for one.

    \b
    p2pnode arbiter register --fee-base 2000 --fee-ppm 2500
    """
    answer = session.client.post("/v1/arbiter", fee_base_sat=fee_base, fee_ppm=fee_ppm)
    if "at_height" not in answer:
        session.emit(answer, "registered; your record is put once your bond is old enough")
    else:
        shown = "" if not answer["bond"] else f", weight {answer['weight']} by your bond"
        session.emit(answer, f"registered: {answer['holders']} nodes hold the record{shown}")
    if answer["waiting"]:
        session.remark(answer["waiting"])
    if "at_height" in answer and not answer["holders"]:
        session.remark("no node has taken it yet; the daemon goes on trying")


@arbiter.command()
@common
def pause(session: Session) -> None:
    r"""Stop putting your record, so that no draw takes you.

    It ages out first: until what block is told. Cases that you were called to stay yours.

    \b
    p2pnode arbiter pause
    """
    answer = session.client.post("/v1/arbiter/pause")
    session.emit(answer, "paused: your record is put no more")
    if "drawable_until_height" in answer:
        last, now = answer["drawable_until_height"], answer["height"]
        session.remark(f"the last one can be drawn until block {last}; the chain is at {now}")


@arbiter.command()
@common
def resume(session: Session) -> None:
    r"""Put your record again after a pause.

    \b
    p2pnode arbiter resume
    """
    answer = session.client.post("/v1/arbiter/resume")
    session.emit(answer, f"resumed: {answer['holders']} nodes hold the record")


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
    held = "no record is put yet"
    if "at_height" in answer:
        held = f"{answer['holders']} nodes hold it, named block {answer['at_height']}"
        held += f", weight {answer['weight']}" + (" by a bond" if answer["bond"] else "")
    lines = [f"registered: {fees}", held, earned]
    if answer["paused"]:
        lines.append("paused: p2pnode arbiter resume")
    if answer["waiting"]:
        lines.append(answer["waiting"])
    session.emit(answer, *lines)


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

    The newest record of each, by the block that it names; --json gives the older ones too.

    \b
    p2pnode arbiter list
    """

    def row(a: dict[str, Any]) -> str:
        return (
            f"{a['node_id'][:16]}…  {a['fee_base_sat']:>8} {a['fee_ppm']:>8} {a['at_height']:>8}"
            f" {a['weight']:>14}"
        )

    found = session.client.get("/v1/arbiters")
    if not session.as_json:
        found = {a["node_id"]: a for a in sorted(found, key=lambda a: a["at_height"])}.values()
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
