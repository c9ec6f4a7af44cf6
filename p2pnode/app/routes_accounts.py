"""The local API's verbs for payment accounts.

POST /v1/accounts honours no idempotency key on purpose: its body holds account details,
which must not come to rest in a table of answers; a name is unique instead.
"""

from typing import Any

from orderbook.account_details import as_mapping
from orderbook.accounts import Account
from orderbook.methods import METHODS, account_form
from orderbook.store_accounts import AccountStore
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import UsageFault
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock


def account_json(account: Account, network: Network) -> dict[str, Any]:
    """Return an account without its details."""
    account_id = account.account_id(network).hex()
    return {"name": account.name, "method": account.method, "account_id": account_id}


def routes(accounts: AccountStore, network: Network, clock: Clock) -> list[Route]:
    """Return the routes of this room."""
    own = _Accounts(accounts, network, clock)
    return [
        Route("POST", "/v1/accounts", own.add, summary="Add a payment account"),
        Route("GET", "/v1/accounts", own.all, summary="List payment accounts"),
        Route("GET", "/v1/accounts/methods", own.methods, summary="List payment methods"),
    ]


class _Accounts:
    def __init__(self, accounts: AccountStore, network: Network, clock: Clock) -> None:
        self._accounts, self._network, self._clock = accounts, network, clock

    async def add(self, call: Call) -> dict[str, Any]:
        details = call.body.get("details")
        if not isinstance(details, dict):
            raise UsageFault("details: is not an object of the method's fields", field="details")
        account = self._accounts.add(
            call.text("name"), call.text("method"), details, now=self._clock.now()
        )
        return account_json(account, self._network)

    async def all(self, call: Call) -> list[dict[str, Any]]:
        return [
            account_json(a, self._network) | {"details": as_mapping(a.method, a.details)}
            for a in self._accounts.all()
        ]

    async def methods(self, call: Call) -> list[dict[str, Any]]:
        return [account_form(method) for method in METHODS]
