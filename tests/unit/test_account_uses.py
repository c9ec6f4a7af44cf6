"""What still needs an account: own offers, living proposals, trades that are not over."""

from types import SimpleNamespace
from typing import Any

import pytest
import trade_facts
from maker_kit import Shop
from orderbook_kit import NET, NOW, TERMS, Counted

from escrow.bargain import Lapsed, Proposed
from escrow.model import Closed, Funded
from escrow.store_journal import TRADER, Row
from orderbook.accounts import Account
from orderbook.store_accounts import AccountStore
from p2pnode.app import desk
from p2pnode.app.account_uses import account_uses
from p2pnode.base import wire
from p2pnode.base.store import Database

SALT = b"f" * 32


def account(name: str) -> Account:
    store = AccountStore(Database(None), NET, b"k" * 32, Counted(name))
    return store.add(name, "CUSTOM", {"details": f"pay {name}"}, now=NOW)


HOME, WORK = account("home"), account("work")


class Exchange:
    """What `account_uses` reads of the exchange: the rows that its shells keep."""

    def __init__(self) -> None:
        self.proposals: list[Any] = []
        self.trades: list[Row] = []
        self.bargains = SimpleNamespace(rows=lambda: self.proposals)
        journal = SimpleNamespace(rows=lambda role: self.trades if role == TRADER else [])
        self.world = SimpleNamespace(journal=journal)

    def trade(self, used: Account | None, state: Any) -> None:
        raw = b""
        if used is not None:
            part = trade_facts._own("t", trade_facts.secret("t"), (), b"\x02" * 33).part
            disclosed = desk.disclosure(used, NET, SALT)
            own = trade_facts.Own(nonce=SALT, listed=(), part=part, disclosure=disclosed.wire)
            raw = wire.pack(own.array())
        self.trades.append(Row(b"\xab" * 32, TRADER, b"", raw, state, "", NOW, NOW))

    def proposal(self, used: Account, state: Any) -> None:
        ended = isinstance(state, Lapsed)
        self.proposals.append(
            SimpleNamespace(id=b"\xcd" * 16, account_id=used.account_id(NET), ended=ended)
        )


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_an_offer_uses_its_accounts_until_it_is_withdrawn(shop: Shop) -> None:
    uses = account_uses(shop.maker, Exchange(), NET)  # type: ignore[arg-type]
    home = HOME.account_id(NET)
    own = await shop.maker.create(**TERMS | {"accounts": {"CUSTOM": home}})
    assert uses(home) == (f"offer {own.offer_id.hex()[:8]}",)
    assert uses(WORK.account_id(NET)) == ()
    await shop.maker.disable(own.offer_id)
    assert uses(home) == (f"offer {own.offer_id.hex()[:8]}",)
    await shop.maker.withdraw(own.offer_id)
    assert uses(home) == ()


async def test_an_offer_that_was_traded_on_needs_its_account_no_more(shop: Shop) -> None:
    exchange, home = Exchange(), HOME.account_id(NET)
    uses = account_uses(shop.maker, exchange, NET)  # type: ignore[arg-type]
    own = await shop.maker.create(**TERMS | {"accounts": {"CUSTOM": home}})
    shop.maker.reserve(own.offer_id, b"\xab" * 32)
    exchange.trade(HOME, Funded())
    assert uses(home) == ("trade abababab",)
    exchange.trades.clear()
    exchange.trade(HOME, Closed(bytes(32), "released"))
    assert uses(home) == ()


def test_a_living_proposal_and_a_trade_that_is_not_over_use_an_account(shop: Shop) -> None:
    exchange, home = Exchange(), HOME.account_id(NET)
    uses = account_uses(shop.maker, exchange, NET)  # type: ignore[arg-type]
    exchange.proposal(WORK, Proposed(1, 5))
    exchange.trade(WORK, Funded())
    exchange.proposal(HOME, Lapsed())
    exchange.trade(HOME, Closed(bytes(32), "released"))
    exchange.trade(None, Funded())  # refused at once: nothing of ours is in it
    assert uses(home) == ()
    exchange.proposal(HOME, Proposed(1, 5))
    assert uses(home) == ("proposal cdcdcdcd",)
    exchange.trade(HOME, Funded())
    assert uses(home) == ("proposal cdcdcdcd", "trade abababab")
