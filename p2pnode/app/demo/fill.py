"""An order book for the demo: many offers by the demo's own nodes, listed by the others.

    accounts ── offers, published by five nodes at once ── listed by two others ── one taken

Through the local API, several calls at a time; the taker's first account goes the way a user
goes, by a form of `p2pnode account form` that is filled in and added.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from p2pnode.app.demo.child import TURN_S
from p2pnode.app.demo.market import LOOKS_ODD, MARKETS, Planned, account_name, plan, wanted
from p2pnode.app.demo.processes import ProcessFault, TooSlow
from p2pnode.app.demo.stage import CURRENCY, MAKER, SEED, TAKER, Stage
from p2pnode.base.errors import NodeError
from p2pnode.base.units import decimal

CALLS: Final = 10  # under way at a time, over all nodes
FILL_S: Final = 180.0  # for all accounts, and for all offers
LISTED_S: Final = 120.0  # from the last offer's publication until another node lists all
LOOKS: Final = (
    f"offer list --sell --cur {CURRENCY} --why",
    f"offer list --sell --cur {CURRENCY} --takeable",
    f"market book {CURRENCY}",
    f"market price {CURRENCY}",
)

Task = tuple[str, Callable[[], Any]]  # whose node, and what to ask of it


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of it: the object for --json, and the words of commands to look round with."""

    line: dict[str, Any]
    looks: tuple[str, ...]


def fill(stage: Stage, count: int) -> Filled:
    """Publish `count` offers, wait until two others list them, take one. Raises ProcessFault."""
    offers, show = plan(count), stage.show
    show.part(f"An order book: {count} offers in {_number(offers, 'currency')} currencies")
    _judge(stage)
    _accounts(stage, offers)
    published, seconds = _publish(stage, offers)
    listed = {name: _listed(stage, name, published) for name in (TAKER, SEED)}
    choice = _takeable(stage)
    if not choice:
        raise ProcessFault(TAKER, f"can take none of {count} offers")
    best, *others = choice
    trade = _take(stage, others[0] if others else best)
    sides = Counter(offer.body["side"] for offer in offers)
    line = {
        "event": "offers",
        "count": count,
        "buy": sides["buy"],
        "sell": sides["sell"],
        "currencies": sorted({offer.body["currency"] for offer in offers}),
        "methods": sorted({method for offer in offers for method in offer.methods}),
        "odd": sum(1 for offer in offers if offer.odd),
        "publish_seconds": seconds,
        "listed_seconds": listed,
        "takeable": len(choice),
        "taken": trade,
    }
    return Filled(line, (*LOOKS, *_shows(offers, published), *(_takes(best) if others else ())))


def _shows(offers: Sequence[Planned], published: Sequence[dict[str, Any]]) -> list[str]:
    """Return a command that shows an odd offer: the first whose terms are not what they seem."""
    for planned, offer in zip(offers, published, strict=True):
        if planned.odd == LOOKS_ODD and planned.maker != TAKER:
            return [f"offer show {offer['offer_id'][:8]}"]
    return []


def _takes(offer: dict[str, Any]) -> list[str]:
    """Return the commands that show an offer and take it."""
    return [f"offer show {offer['offer_id'][:8]}", " ".join(_words(offer)[:-1])]


def _judge(stage: Stage) -> None:
    """Have a fourth arbiter: a draw needs three who are not the two that trade."""
    stage.show.doing(SEED, "volunteers as an arbiter")
    stage.net.cli(SEED, "arbiter", "register")
    stage.show.step("register", SEED, "judges too, so that arbiters can trade")


# ------------------------------------------------------------------ accounts and offers


def _accounts(stage: Stage, offers: Sequence[Planned]) -> None:
    """Give each node an account of every method that it needs."""
    net, needs = stage.net, wanted(tuple(offers))
    client = net.client(SEED)
    methods = {m["method"]: m for m in client.get("/v1/accounts/methods")}
    tasks: list[Task] = []
    stage.show.doing(TAKER, "fills in the form of an account")
    has = {name: {a["method"] for a in net.client(name).get("/v1/accounts")} for name in needs}
    missing = {name: [m for m in needs[name] if m not in has[name]] for name in needs}
    if missing[TAKER]:
        _by_form(stage, methods[missing[TAKER].pop(0)])
    for name, lacking in missing.items():
        for method in lacking:
            body: dict[str, Any] = {"name": account_name(method), "method": method}
            body["details"] = _examples(methods[method])
            tasks.append((name, partial(net.client(name).post, "/v1/accounts", **body)))
    _all(stage, "adds an account", tasks)
    total = sum(len(needed) for needed in needs.values())
    text = f"{total} accounts of {len(set().union(*needs.values()))} methods"
    stage.show.step("accounts", MAKER, f"and the others have {text}")


def _by_form(stage: Stage, method: dict[str, Any]) -> None:
    """Add the taker's account as a user does: write a form, fill it in, add the file."""
    name = account_name(method["method"])
    file = stage.net.root / f"{name}.toml"
    stage.net.cli(TAKER, "account", "form", method["method"], "--out", str(file))
    form = file.read_text()
    for field, example in _examples(method).items():
        filled = form.replace(
            f'\n{field} = ""\n', f"\n{field} = {json.dumps(example, ensure_ascii=False)}\n"
        )
        if filled == form:
            raise ProcessFault(TAKER, f"the form of {method['method']} does not ask for {field}")
        form = filled
    file.write_text(form)
    stage.net.cli(TAKER, "account", "add", str(file))
    stage.show.step("form", TAKER, f"fills in the form of {method['method']}, adds the account")


def _examples(method: dict[str, Any]) -> dict[str, str]:
    """Return details that are plainly examples: those that the form itself gives."""
    return {field["name"]: field["example"] for field in method["fields"]}


def _publish(stage: Stage, offers: Sequence[Planned]) -> tuple[list[dict[str, Any]], float]:
    """Publish all; return them as their makers' nodes answered, and the seconds it took."""
    net, show = stage.net, stage.show
    show.doing(MAKER, f"and four others sign and publish {len(offers)} offers")
    tasks = [
        (
            o.maker,
            partial(
                net.client(o.maker).post,
                "/v1/offers",
                accounts=o.accounts,
                any_price=True,
                **o.body,
            ),
        )
        for o in offers
    ]
    began = time.monotonic()
    published = _all(stage, "publishes an offer", tasks)
    seconds = round(time.monotonic() - began, 2)
    makers = len({o.maker for o in offers})
    what = f"and {makers - 1} others publish" if makers > 1 else "publishes"
    plural = "offer" if len(published) == 1 else "offers"
    show.step("offers", MAKER, f"{what} {len(published)} {plural} in {seconds:.1f} s")
    return published, seconds


def _all(stage: Stage, what: str, tasks: Iterable[Task]) -> list[Any]:
    """Do all tasks, CALLS at a time; return their answers in order. Raises ProcessFault."""
    pool = ThreadPoolExecutor(CALLS)
    try:
        begun = [(name, pool.submit(do)) for name, do in tasks]
        open_, deadline = {future for _, future in begun}, time.monotonic() + FILL_S
        while open_:
            done, open_ = wait(open_, TURN_S, FIRST_EXCEPTION)
            stage.net.look()
            if open_ and time.monotonic() > deadline:
                name = next(name for name, future in begun if future in open_)
                text = f"{what}: {len(open_)} of {len(begun)} are not done within {FILL_S:g} s"
                raise TooSlow(name, text, stage.net.last_words(name))
            for name, future in begun:
                error = future.exception() if future in done else None
                if isinstance(error, NodeError):
                    raise ProcessFault(name, f"{what}: {error}", stage.net.last_words(name))
        return [future.result() for _, future in begun]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# ------------------------------------------------------------------ what others see


def _listed(stage: Stage, name: str, published: Sequence[dict[str, Any]]) -> float:
    """Wait until a node lists every offer; return the seconds that it took from now on."""
    due: dict[str, set[str]] = {}
    for offer in published:
        due.setdefault(offer["currency"], set()).add(offer["offer_id"])
    stage.show.doing(name, f"looks for {len(published)} offers")
    client, began = stage.net.client(name), time.monotonic()

    def missing() -> int:
        asked = [c for c, ids in due.items() if ids]
        queries = [urlencode({"currency": c, "hidden": 1}) for c in asked]
        tasks = [(name, partial(client.get, f"/v1/offers?{query}")) for query in queries]
        for currency, rows in zip(asked, _all(stage, "lists offers", tasks), strict=True):
            due[currency] -= {row["offer_id"] for row in rows}
        return sum(map(len, due.values()))

    stage.net.until(name, "lists every offer", missing, lambda left: not left, LISTED_S)
    seconds = round(time.monotonic() - began, 2)
    how = "asks for the first time and" if name == SEED else "follows them and"
    text = f"{how} lists all {len(published)}, {seconds:.1f} s later"
    stage.show.step("listed", name, text)
    return seconds


def _takeable(stage: Stage) -> list[dict[str, Any]]:
    """Return what the taker can buy: the best of the first market first, then of others."""
    rows: list[dict[str, Any]] = []
    for currency in (CURRENCY, *(c for c in MARKETS if c != CURRENCY)):
        query = urlencode({"currency": currency, "side": "sell", "takeable": 1})
        rows += stage.net.client(TAKER).get(f"/v1/offers?{query}")
    return rows


def _words(offer: dict[str, Any]) -> tuple[str, ...]:
    """Return the command by which the taker takes the least of an offer."""
    amount, account = decimal(offer["min_sat"], 8).rstrip("0"), account_name(offer["methods"][0])
    words = ("trade", "take", offer["offer_id"][:8], "--amount", amount, "--account", account)
    return (*words, "--yes")


def _take(stage: Stage, offer: dict[str, Any]) -> dict[str, Any]:
    """Take an offer up to the escrow that both have signed."""
    show, words = stage.show, _words(offer)
    show.doing(TAKER, "takes one of them")
    trade_id = stage.net.cli(TAKER, *words)["trade_id"]
    for side in (TAKER, stage.names[offer["maker"]]):
        trade = stage.trade(side, trade_id, "the funding", lambda t: t["state"] == "Broadcast")
    what = f"takes {words[4]} BTC for {offer['currency']}: both sign"
    show.step("taken", TAKER, what, trade["escrow_txid"])
    return {
        "offer_id": offer["offer_id"],
        "trade_id": trade_id,
        "currency": offer["currency"],
        "state": trade["state"],
        "escrow_txid": trade["escrow_txid"],
    }


def _number(offers: Sequence[Planned], field: str) -> int:
    return len({offer.body[field] for offer in offers})
