"""A maker who changes his offer under his taker's hands: what was shown is taken, or nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bargain_daemon import Town, town
from orderbook_kit import offer as signed_offer

from orderbook.offer import Side
from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer
from p2pnode.app.commands.proposal import proposal
from p2pnode.app.commands.trade import trade
from p2pnode.app.deal import Deals
from p2pnode.base.errors import LocalFault


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path) as made:
        for desk in (made.maker, made.taker):
            words = ("add", "--name", "home", "--method", "CUSTOM", "--details", "IBAN 1")
            assert desk(account, *words).exit_code == 0
        yield made


def create(here: Town, *more: str) -> str:
    words = ("--cur", "EUR", "--min", "0.002", "--max", "0.01", "--account", "home")
    made = here.maker(offer, "create", "--sell", *words, *more, "--json")
    assert made.exit_code == 0, made.stderr
    assert here.taker(offer, "list", "--cur", "EUR").exit_code == 0
    found: dict[str, Any] = json.loads(made.stdout)
    return str(found["offer_id"])


@pytest.mark.parametrize(
    "change",
    [("--deposit", "50"), ("--escrow", "wsh-2of3"), ("--terms", "by cheque alone")],
    ids=["deposit", "escrow", "terms"],
)
def test_terms_that_change_between_quote_and_take_are_caught(
    here: Town, change: tuple[str, str]
) -> None:
    """The sum alone is no consent: a maker may leave it and ask for half as a deposit."""
    offer_id = create(here, "--price", "61240")
    asked = {"offer_id": offer_id, "amount_sat": 500_000, "account": "home"}
    api = here.taker.client()
    quote = api.post("/v1/quotes", **asked)
    edited = here.maker(offer, "edit", offer_id, *change)
    assert edited.exit_code == 0, edited.stderr
    sure = {"fiat_minor": quote["fiat_minor"], "terms": quote["terms"]}
    with pytest.raises(LocalFault, match="the maker has changed the offer"):
        api.post("/v1/trades", **asked, **sure)
    with pytest.raises(LocalFault, match="the maker has changed the offer"):
        api.post("/v1/proposals", **asked, **sure)
    assert here.taker(trade, "list").stdout == ""
    again = api.post("/v1/quotes", **asked)
    assert api.post("/v1/trades", **asked, fiat_minor=again["fiat_minor"], terms=again["terms"])


def test_an_offer_that_changes_between_proposal_and_yes_is_not_taken(here: Town) -> None:
    offer_id = create(here, "--price", "61240")
    api = here.taker.client()
    asked = {"offer_id": offer_id, "amount_sat": 500_000, "account": "home", "fiat_minor": 29_000}
    made = api.post("/v1/proposals", **asked)
    here.until(here.maker, made["proposal_id"], "Proposed")
    agreed = here.maker(proposal, "accept", made["proposal_id"][:8], "--yes")
    assert agreed.exit_code == 0, agreed.stderr
    here.until(here.taker, made["proposal_id"], "Countered")
    assert here.maker(offer, "edit", offer_id, "--deposit", "50").exit_code == 0
    with pytest.raises(LocalFault, match="propose again"):
        api.post(f"/v1/proposals/{made['proposal_id']}/accept")
    assert here.taker(trade, "list").stdout == ""


def test_a_refresh_is_no_change_and_a_turned_side_is_one() -> None:
    shown = signed_offer(seq=1)
    Deals.unchanged(replace(shown, seq=2, expires_at=shown.expires_at + 60), shown.alike.hex())
    for change in ({"side": Side.BUY}, {"dep_s_bp": 5000}, {"methods": ("CUSTOM", "SEPA")}):
        with pytest.raises(LocalFault, match="look again"):
            Deals.unchanged(replace(shown, **change), shown.alike.hex())
