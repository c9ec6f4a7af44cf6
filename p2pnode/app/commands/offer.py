"""`p2pnode offer`: publish, change and take back offers; offer_find finds and shows them.

SIDE is always what the maker does with bitcoin: `offer list --sell` shows who sells.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from p2pnode.app.commands.frame import WIDTH, Session, common, hanging, hex_prefix
from p2pnode.app.commands.offer_find import FINDING, currency_code, sides
from p2pnode.app.commands.offer_terms import said, with_terms
from p2pnode.app.commands.offer_view import price, span, whole
from p2pnode.base.errors import NodeError
from p2pnode.base.units import decimal

PATIENCE_S: Final = 2.0  # before a search for work is worth a word
AGAIN_S: Final = 10.0
WORK_S: Final = 1200  # a daemon may look for work that long


@click.group()
def offer() -> None:
    """Offers to buy or sell bitcoin."""


for _command in FINDING:
    offer.add_command(_command)


@offer.command()
@sides(required=True)
@click.option("--cur", "currency", required=True, help="ISO 4217, such as EUR.")
@with_terms
@common
def create(session: Session, side: str | None, currency: str, **options: Any) -> None:
    r"""Publish an offer.

    It is kept published until you cancel it, or until it ends. A trade reserves it; when the
    trade is over, publish another. Who proposes another price is answered as the last three
    options say; they, the triggers and your accounts stay with your node.

    \b
    p2pnode offer create --sell --cur EUR --min 0.005 --max 0.02 \
        --price 61240 --account home
    p2pnode offer create --buy --cur EUR --min 0.005 --max 0.02 \
        --margin -1.5 --account home --account second --country DE --country AT
    p2pnode offer create --sell --cur EUR --min 0.005 --max 0.01 \
        --margin 2 --account home --buyer-deposit 0 --expires 7d
    """
    if side is None:
        raise click.UsageError("Say --sell or --buy.")
    for name, option in (("low", "--min"), ("high", "--max")):
        if options[name] is None:
            raise click.UsageError(f"Missing option '{option}'.")
    if options["price"] is None and options["margin"] is None:
        raise click.UsageError("Say --price or --margin.")
    if not options["accounts"]:
        raise click.UsageError("Missing option '--account'.")
    currency = currency_code(currency)
    places = session.client.get(f"/v1/currencies/{currency}")["exponent"]
    body = said(places, options)
    with _patience(session, currency):
        made = session.worker(WORK_S).post("/v1/offers", side=side, currency=currency, **body)
    _made(session, made)


@offer.command()
@click.argument("offer_id", metavar="ID")
@sides(required=True)
@click.option("--cur", "currency", help="For another market.")
@with_terms
@common
def clone(
    session: Session, offer_id: str, side: str | None, currency: str | None, **options: Any
) -> None:
    r"""Publish another offer like one of yours, in whatever state that is.

    What you say replaces what it says; it ends only if you say so.

    \b
    p2pnode offer clone c05e12
    p2pnode offer clone c05e12 --buy --margin -2
    p2pnode offer clone c05e12 --cur CHF --price 58000
    """
    digits = hex_prefix("offer_id", offer_id, 1)
    like = session.client.get(f"/v1/offers/{digits}")
    there = like["currency"] if currency is None else currency_code(currency)
    places = session.client.get(f"/v1/currencies/{there}")["exponent"]
    if there != like["currency"] and not {"price", "margin"} & _given(options):
        raise click.UsageError("A price is one of a market: say --price or --margin.")
    body = said(places, options) | {"currency": there} | ({"side": side} if side else {})
    with _patience(session, there):
        made = session.worker(WORK_S).post(f"/v1/offers/{digits}/clone", **body)
    _made(session, made)


@offer.command()
@click.argument("offer_id", metavar="ID")
@with_terms
@common
def edit(session: Session, offer_id: str, **options: Any) -> None:
    r"""Change one of your offers; what you leave out stays.

    Who names an earlier version of it is refused from then on. Its side and its currency
    stay: clone it for others. `--country any`, `--language any`, `--expires never` and
    `--disable-below 0` take away what was said.

    \b
    p2pnode offer edit c05e12 --price 60900 --max 0.03
    p2pnode offer edit c05e12 --margin 0.5 --disable-below 55000
    p2pnode offer edit c05e12 --accept-within 0.5 --counter-within 3
    """
    if not _given(options):
        raise click.UsageError("Say what is to change.")
    digits = hex_prefix("offer_id", offer_id, 1)
    now = session.client.get(f"/v1/offers/{digits}")
    body = said(now["exponent"], options)
    with _patience(session, now["currency"]):
        changed = session.worker(WORK_S).post(f"/v1/offers/{digits}/edit", **body)
    session.emit(changed, *whole(changed))


@offer.command()
@click.argument("offer_id", metavar="ID")
@common
def enable(session: Session, offer_id: str) -> None:
    r"""Publish one of your offers again.

    \b
    p2pnode offer enable c05e12
    """
    digits = hex_prefix("offer_id", offer_id, 1)
    now = session.client.get(f"/v1/offers/{digits}")
    with _patience(session, now["currency"]):
        back = session.worker(WORK_S).post(f"/v1/offers/{digits}/enable")
    session.emit(back, f"offer {back['offer_id'][:6]} enabled")


@offer.command()
@click.argument("offer_id", metavar="ID")
@common
def disable(session: Session, offer_id: str) -> None:
    r"""Take one of your offers out of the book and keep its terms.

    \b
    p2pnode offer disable c05e12
    """
    kept = session.client.post(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}/disable")
    session.emit(kept, f"offer {kept['offer_id'][:6]} disabled")


@offer.command()
@common
def mine(session: Session) -> None:
    r"""List your own offers in every state, and why they are in it.

    \b
    p2pnode offer mine
    p2pnode offer mine --json | jq -r 'select(.state=="enabled").offer_id'
    """
    session.emit_rows(
        session.client.get("/v1/offers/mine"),
        f"{'ID':<6}  {'SIDE':<4}  {'PRICE':>17}  {'BTC min-max':<15}  {'STATE':<9}  "
        f"{'HELD':>4}  ACCOUNT",
        _mine,
        "you have no offers: p2pnode offer create",
    )


@offer.command()
@click.argument("offer_id", metavar="ID")
@common
def cancel(session: Session, offer_id: str) -> None:
    r"""Take one of your offers back for good.

    \b
    p2pnode offer cancel c05e12
    """
    gone = session.client.post(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}/cancel")
    session.emit(gone, f"offer {gone['offer_id'][:6]} withdrawn")


def _mine(o: dict[str, Any]) -> str:
    """Write one own offer; why it is disabled or over goes on a line of its own."""
    names = ",".join(name or "(gone)" for name in o["accounts"].values())
    bp = o["margin_bp"]
    what = price(o) if bp is None else f"{'+' if bp > 0 else ''}{decimal(bp, 2)} %"
    head = (
        f"{o['offer_id'][:6]}  {o['side']:<4}  {what + ' ' + o['currency']:>17}  "
        f"{span(o):<15}  {o['state']:<9}  {o['holders']:>4}  "
    )
    fits = len(head) + len(names) <= WIDTH
    row = (
        head + names if fits else head.rstrip() + hanging(f"\n{'':<6}  ", names.replace(",", ", "))
    )
    why = o["why"] and o["why"] != "by its maker"
    return row + (hanging(f"\n{'':<6}  ", o["why"]) if why else "")


def _given(options: dict[str, Any]) -> set[str]:
    """Return the names of the options that were said."""
    return {name for name, value in options.items() if value not in (None, (), False)}


def _made(session: Session, made: dict[str, Any]) -> None:
    session.emit(made, *whole(made))
    if not made["holders"]:
        session.remark("no node has taken it yet; the daemon goes on trying")


@contextmanager
def _patience(session: Session, currency: str) -> Iterator[None]:
    """Say what takes so long while an offer's work is sought; answers are not touched."""
    done = threading.Event()

    def tell() -> None:
        wait = PATIENCE_S
        while not done.wait(wait):
            try:
                now = session.client.get(f"/v1/offers/work?currency={currency}")
            except NodeError:
                return
            if not now["tries"]:
                continue
            share = now["tries"] * 100 // now["expected"]
            session.remark(
                f"looking for its proof of work of {now['bits']} bits: {now['tries']:,} tries, "
                f"{share} % of what it takes on average …"
            )
            wait = AGAIN_S

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
