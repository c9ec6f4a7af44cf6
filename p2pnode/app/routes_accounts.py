"""The local API's verbs for payment methods and payment accounts.

POST /v1/accounts honours no idempotency key on purpose: its body holds account details,
which must not come to rest in a table of answers; a name is unique instead.
"""

from typing import Any

from orderbook import limits
from orderbook.account_details import as_mapping, check_details, problems
from orderbook.accounts import Account, check_name
from orderbook.currencies import check_currency
from orderbook.method_fields import MethodField
from orderbook.methods import METHODS, Method, check_method
from orderbook.places import check_country
from orderbook.store_accounts import AccountStore
from p2pnode.app.account_uses import Uses
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import InvalidRecord, LocalFault, UsageFault
from p2pnode.base.history import NONE
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock


def account_json(account: Account, network: Network) -> dict[str, Any]:
    """Return an account without its details."""
    account_id = account.account_id(network).hex()
    return {"name": account.name, "method": account.method, "account_id": account_id}


def method_json(method: Method) -> dict[str, Any]:
    """Return a payment method and what an account of it asks for."""
    return {
        "method": method.id,
        "name": method.name,
        "group": method.group,
        "currencies": list(method.currencies),
        "countries": list(method.countries),
        "period_s": method.period_s,
        "risk": method.risk,
        "chargeback": method.chargeback,
        "cap_sat": limits.cap_sat(method.id),
        "newcomer_sat": limits.most_sat(method.id, NONE, 0),
        "help": method.help,
        "fields": [_field_json(one) for one in method.fields],
    }


def _field_json(one: MethodField) -> dict[str, Any]:
    return {
        "name": one.name,
        "optional": one.optional,
        "what": one.what,
        "min_bytes": one.low,
        "max_bytes": one.high,
        "options": list(one.options),
        "regions": list(one.regions),
        "example": one.example,
        "help": one.help,
    }


def routes(accounts: AccountStore, network: Network, clock: Clock, uses: Uses) -> list[Route]:
    """Return the routes of this room; `uses` tells what still needs an account."""
    own = _Accounts(accounts, network, clock, uses)
    return [
        Route("POST", "/v1/accounts", own.add, summary="Add a payment account"),
        Route("POST", "/v1/accounts/check", own.check, summary="Check an account to be added"),
        Route("POST", "/v1/accounts/remove", own.remove, summary="Remove a payment account"),
        Route("GET", "/v1/accounts", own.all, summary="List payment accounts"),
        Route("GET", "/v1/accounts/methods", own.methods, summary="List payment methods"),
        Route("GET", "/v1/accounts/methods/{method}", own.method, summary="Show one method"),
    ]


class _Accounts:
    def __init__(self, accounts: AccountStore, network: Network, clock: Clock, uses: Uses) -> None:
        self._accounts, self._network, self._clock, self._uses = accounts, network, clock, uses

    async def add(self, call: Call) -> dict[str, Any]:
        account = self._accounts.add(
            call.text("name"), call.text("method"), _details(call), now=self._clock.now()
        )
        return account_json(account, self._network)

    async def check(self, call: Call) -> dict[str, Any]:
        method, details = check_method("method", call.text("method")), _details(call)
        found = [{"code": InvalidRecord.code} | p for p in problems(method.id, details)]
        try:
            self._accounts.check_new(check_name(call.text("name")))
        except (InvalidRecord, LocalFault) as error:
            found.insert(0, {"code": error.code, "field": error.field, "why": str(error)})
        kept = {} if found else as_mapping(method.id, check_details(method.id, details))
        return {"method": method.id, "problems": found, "details": kept}

    async def remove(self, call: Call) -> dict[str, Any]:
        account = self._accounts.named(call.text("name"))
        users = self._uses(account.account_id(self._network))
        if users:
            raise LocalFault(
                f"account: {account.name!r} is in use by {', '.join(users[:8])}: first cancel "
                "the offers, and let proposals and trades end",
                field="account",
            )
        self._accounts.remove(account)
        return account_json(account, self._network)

    async def all(self, call: Call) -> list[dict[str, Any]]:
        return [
            account_json(a, self._network)
            | {
                "details": as_mapping(a.method, a.details),
                "uses": list(self._uses(a.account_id(self._network))),
            }
            for a in self._accounts.all()
        ]

    async def methods(self, call: Call) -> list[dict[str, Any]]:
        currency, country = call.text("currency", ""), call.text("country", "")
        if currency:
            check_currency("currency", currency)
        if country:
            check_country("country", country)
        return [
            method_json(m)
            for m in METHODS.values()
            if (not currency or m.takes(currency)) and (not country or m.reaches(country))
        ]

    async def method(self, call: Call) -> dict[str, Any]:
        return method_json(check_method("method", call.text("method")))


def _details(call: Call) -> dict[str, Any]:
    details = call.body.get("details")
    if not isinstance(details, dict):
        raise UsageFault("details: is not an object of the method's fields", field="details")
    return details
