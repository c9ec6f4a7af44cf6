"""`p2pnode wallet`: what the node holds, where it is paid, what it pays."""

from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.units import decimal, parse_decimal

_PLACES: Final = 8


def _btc(sat: int) -> str:
    return decimal(sat, _PLACES)


@click.group()
def wallet() -> None:
    """Balance, addresses and payments."""


@wallet.command()
@common
def balance(session: Session) -> None:
    r"""Show what the wallet holds.

    Confirmed is available plus locked in trades. Pending is not money yet: it may still
    be replaced or never confirm.

    \b
    p2pnode wallet balance
    p2pnode wallet balance --json | jq .available_sat
    """
    answer = session.client.get("/v1/wallet/balance")
    lines = [
        f"{name:<10} {_btc(answer[f'{name}_sat']):>17} BTC"
        for name in ("available", "locked", "confirmed", "pending")
    ]
    session.emit(answer, *lines)


@wallet.command()
@common
def address(session: Session) -> None:
    r"""Show an address never handed out before.

    \b
    p2pnode wallet address
    """
    answer = session.client.post("/v1/wallet/address")
    session.emit(answer, answer["address"])


@wallet.command()
@common
def utxos(session: Session) -> None:
    r"""List the coins, and the trade that holds each.

    \b
    p2pnode wallet utxos
    p2pnode wallet utxos --json | jq 'select(.trade_id==null).amount_sat'
    """
    session.emit_rows(
        session.client.get("/v1/wallet/utxos"),
        f"{'BTC':>17} {'CONF':>6}  TRADE",
        _utxo_row,
        "no coins: `p2pnode wallet address` shows where to send some",
    )


def _utxo_row(row: dict[str, Any]) -> str:
    where = f"{row['txid']}:{row['vout']}"
    trade = row["trade_id"][:12] if row["trade_id"] else "-" if row["mature"] else "(immature)"
    return f"{_btc(row['amount_sat']):>17} {row['confirmations']:>6}  {trade}\n    {where}"


@wallet.command()
@common
def history(session: Session) -> None:
    r"""List the wallet's transactions, the newest first.

    \b
    p2pnode wallet history
    """
    session.emit_rows(
        session.client.get("/v1/wallet/history"),
        f"{'BTC':>18} {'FEE SAT':>8} {'HEIGHT':>8}",
        _history_row,
        "nothing has come or gone yet",
    )


def _history_row(row: dict[str, Any]) -> str:
    sign = "+" if row["amount_sat"] > 0 else ""
    fee = "-" if row["fee_sat"] is None else f"{row['fee_sat']:,}"
    height = row["height"] or "pending"
    return f"{sign + _btc(row['amount_sat']):>18} {fee:>8} {height:>8}\n    {row['txid']}"


@wallet.command()
@click.argument("address")
@click.argument("amount", metavar="AMOUNT_BTC")
@click.option("--rate", type=click.IntRange(1, 500), help="sat/vB [default: the server's estimate]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def send(session: Session, address: str, amount: str, rate: int | None, yes: bool) -> None:
    r"""Pay AMOUNT_BTC to ADDRESS.

    Coins that a trade holds are left alone.

    \b
    p2pnode wallet send bcrt1q… 0.005
    p2pnode wallet send bcrt1q… 0.005 --rate 3 --yes
    """
    sat = parse_decimal("amount", amount, _PLACES)
    session.confirm(f"Send {_btc(sat)} BTC to {address}?", yes)
    body: dict[str, Any] = {"address": address, "amount_sat": sat}
    if rate is not None:
        body["rate"] = rate
    answer = session.client.post("/v1/wallet/send", **body)
    session.emit(answer, answer["txid"])
    session.remark(f"sent {_btc(sat)} BTC; it counts once confirmed")
