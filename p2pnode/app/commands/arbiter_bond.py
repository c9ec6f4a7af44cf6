"""`p2pnode arbiter bond`: bitcoin locked, so that arbiters cannot be made for nothing."""

from datetime import UTC, datetime
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, coins, common, entry
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import decimal, moment, parse_decimal

_BONDS: Final = f"{'BOND':<5} {'STATE':<9} {'BTC':>12} {'LOCKED UNTIL':<21} {'BTC x YEARS':>12}"
_PROOF: Final = (
    *("outpoint", "amount_sat", "lock_time", "height", "bond_key", "key_path", "script"),
    *("address", "transaction", "position"),
)
_RATE: Final = click.option(
    "--rate", type=click.IntRange(1, 500), help="sat/vB [default: the server's estimate]"
)
_YES: Final = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def bond() -> None:
    """Lock bitcoin, so that your record is drawn by its weight."""


def _lock(command: Any) -> Any:
    command = click.option(
        "--until", metavar="DATE", help="Lock it until this day, such as 2027-06-30 (UTC)."
    )(command)
    return click.option("--lock", type=click.IntRange(1, 3650), metavar="DAYS", help="So long.")(
        command
    )


def _lock_body(lock: int | None, until: str | None) -> tuple[dict[str, int], str]:
    """Return what the API takes, and the same for people. Raises UsageError, InvalidRecord."""
    if (lock is None) == (until is None):
        raise click.UsageError("name one of --lock DAYS and --until DATE.")
    if until is None:
        return {"lock_days": lock or 0}, f"for {lock} days"
    try:
        day = datetime.strptime(until.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRecord("until", f"{until[:20]!r} is not a day such as 2027-06-30") from None
    return {"until": int(day.timestamp())}, f"until {until.strip()}"


@bond.command()
@click.option("--amount", required=True, metavar="BTC", help="How much to lock.")
@_lock
@_RATE
@_YES
@common
def create(
    session: Session,
    amount: str,
    lock: int | None,
    until: str | None,
    rate: int | None,
    yes: bool,
) -> None:
    r"""Lock bitcoin of your wallet as a bond.

    Weight is amount times the time still locked, a year at most. Nobody can spend it before,
    you neither; afterwards `redeem` brings it home. Your record shows it once it is old enough.

    \b
    p2pnode arbiter bond create --amount 0.05 --lock 365
    p2pnode arbiter bond create --amount 0.05 --until 2027-06-30 --yes
    """
    body, said = _lock_body(lock, until)
    body["amount_sat"] = parse_decimal("amount", amount, 8)
    if rate is not None:
        body["rate"] = rate
    session.confirm(f"Lock {coins(body['amount_sat'])} BTC {said}? It cannot be undone.", yes)
    _show(session, session.client.post("/v1/bonds", **body))


@bond.command()
@common
def show(session: Session) -> None:
    r"""List your bonds, the oldest first.

    \b
    p2pnode arbiter bond show
    p2pnode arbiter bond show --json | jq -r 'select(.state=="drawable").outpoint'
    """

    def row(b: dict[str, Any]) -> str:
        weight = decimal(b["weight"], 8) if "weight" in b else ""
        line = (
            f"{b['number']:<5} {b['state']:<9} {decimal(b['amount_sat'], 8):>12} "
            f"{moment(b['lock_time']):<21} {weight:>12}"
        )
        return line + (f"\n{'':<6}{b['note']}" if b["note"] else "")

    empty = "no bonds: p2pnode arbiter bond create --help"
    session.emit_rows(session.client.get("/v1/bonds"), _BONDS, row, empty)


@bond.command()
@_lock
@click.option("--amount", metavar="BTC", help="How much of the wallet's [default: as before].")
@_RATE
@_YES
@common
def renew(
    session: Session,
    lock: int | None,
    until: str | None,
    amount: str | None,
    rate: int | None,
    yes: bool,
) -> None:
    r"""Lock expired bonds again, or else new coins of your wallet.

    A new bond must grow old before it can be drawn, so make it while the last one still counts.

    \b
    p2pnode arbiter bond renew --lock 365
    p2pnode arbiter bond renew --until 2028-01-31 --amount 0.1 --yes
    """
    body, said = _lock_body(lock, until)
    if amount is not None:
        body["amount_sat"] = parse_decimal("amount", amount, 8)
    if rate is not None:
        body["rate"] = rate
    much = "as much as before" if amount is None else f"{coins(body['amount_sat'])} BTC"
    session.confirm(f"Lock {much} again {said}? It cannot be undone.", yes)
    _show(session, session.client.post("/v1/bonds/renew", **body))


@bond.command()
@_RATE
@_YES
@common
def redeem(session: Session, rate: int | None, yes: bool) -> None:
    r"""Send expired bonds back to your wallet.

    \b
    p2pnode arbiter bond redeem
    p2pnode arbiter bond redeem --rate 3 --yes
    """
    session.confirm("Send your expired bonds, less the network fee, to your wallet?", yes)
    answer = session.client.post("/v1/bonds/redeem", **({} if rate is None else {"rate": rate}))
    session.emit(answer, answer["txid"])
    session.remark(f"redeems {coins(answer['amount_sat'])} BTC; it counts once confirmed")


@bond.command()
@click.argument("number", type=click.IntRange(0))
@click.argument("lock_time", type=int)
@common
def recover(session: Session, number: int, lock_time: int) -> None:
    r"""Find a bond of these words again, after a restore.

    Number and lock time stand in what `proof` printed: the last step of key_path, and
    lock_time. Your record's lock time is told by `arbiter list --json` too.

    \b
    p2pnode arbiter bond recover 0 1830297600
    """
    _show(session, session.client.post("/v1/bonds/recover", number=number, lock_time=lock_time))


@bond.command()
@click.argument("number", type=click.IntRange(0), default=0)
@common
def proof(session: Session, number: int) -> None:
    r"""Print what proves a bond to anybody.

    Keep it with your words: key path and lock time are what a restored wallet needs to find it.

    \b
    p2pnode arbiter bond proof
    p2pnode arbiter bond proof 1 --json > bond.json
    """
    answer = session.client.get(f"/v1/bonds/{number}/proof")
    lines = [f"  {name:<12}{answer[name]}" for name in _PROOF]
    lines += [f"  {'branch':<12}{other}" for other in answer["branch"]]
    session.emit(answer, *lines)


def _show(session: Session, b: dict[str, Any]) -> None:
    until = moment(b["lock_time"])
    session.emit(
        b,
        f"bond {b['number']}: {coins(b['amount_sat'])} BTC until {until}, by the chain's clock",
        entry("address", b["address"]),
        entry("state", f"{b['state']}: {b['note']}" if b["note"] else b["state"]),
        entry("drawable", f"until {moment(b['drawable_until_mtp'])}"),
    )
    session.remark("keep what `p2pnode arbiter bond proof` prints once it is confirmed")
