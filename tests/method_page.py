"""docs/payment-methods.md, written from the registry, the kinds and the limits."""

from collections.abc import Iterable
from itertools import groupby

from orderbook.currencies import ISO
from orderbook.field_kinds import KINDS
from orderbook.limits import (
    CAPS_SAT,
    HALF_AFTER_DAYS,
    NEWCOMER_SAT,
    WHOLE_AFTER_DAYS,
    cap_sat,
)
from orderbook.methods import METHODS, Method
from orderbook.registry import COINS

GROUPS = {
    "bank": "Bank transfers",
    "service": "Services and mobile payments",
    "cash": "Cash and vouchers",
    "coin": "Other chains",
    "custom": "Anything else",
}

HEAD = """\
# Payment methods

This page is written from `orderbook/payment_methods.toml`, `orderbook/field_kinds.py` and `orderbook/limits.py`;
`P2PNODE_RENEW=1 python -m pytest tests/unit/test_payment_methods.py` renews it. {count} methods, {currencies} currencies of
ISO 4217 and {coins} coins of other chains.

```
p2pnode account methods --cur EUR --country DE    which methods there are
p2pnode account methods SEPA                      one in full
p2pnode account form SEPA --out sepa.toml         a file to fill in
p2pnode account add sepa.toml                     checks it field by field
```

An account lies encrypted on its owner's disk. Before the funding a counterparty sees a salted hash of it, after the
funding its fields, and an arbiter only what a trader shows him in a dispute ([wire/offers.md](wire/offers.md), "Accounts").

**Two gates.** What you type is spelled in one way (an IBAN without spaces, a phone number as E.164, a name in NFKC) and
judged by libraries made for it: check digits, countries, number plans, mixed alphabets. What a counterparty discloses must have the
shape below, else his node has disclosed nothing; what the libraries of your node hold against it stands beside it, marked
`[!]`, when you are told where to pay. So two versions of a library never part two traders over an account that their
contract commits to.

## Limits

The risk class caps the amount of one trade; some methods have a lower cap of their own.

| risk | most BTC | methods |
| --- | --- | --- |
{risks}

Where the payment can be taken back (column *back*), a **buyer** begins low: {newcomer} BTC until {half} days after the first
trade that his receipts prove, then half of the cap, and the whole after {whole} days. An operator may lower caps, by risk class or
method, never raise them.
"""

KINDS_HEAD = """\
## Kinds of value

Bytes are UTF-8, of the value as it is kept and disclosed; *field* where the field sets them. The shape is a regular
expression over the whole value (Python's `re`, ASCII; text and names any letters). No value holds a control or direction
character, a space at either end, or a character that shows nothing: {invisible}.

| kind | takes | bytes | shape |
| --- | --- | --- | --- |
"""

FOOT = """\
## Coins

Beside the currencies of ISO 4217 that have a minor unit, offers may be priced in coins of other chains. A price is in
minor units per BTC × 10⁴, as for any currency.

| code | coin | decimals |
| --- | --- | --- |
{coins}

## Adding a method

A method is a table in `orderbook/payment_methods.toml`, whose head says what each key means; no code changes. A file that
is wrong stops every node that has it with a sentence that names the method and the key. Then renew this page and
`tests/vectors/payment_fields.txt`, and read both differences. A published method's fields never change in number, order or
shape, since contracts commit to accounts of it: what differs is a new method. A node that does not know a method refuses offers
that name it, so a new one spreads with the version that brings it.
"""

INVISIBLE = (
    "U+00A0, U+00AD, U+034F, U+115F, U+1160, U+1680, U+17B4, U+17B5, U+180B–180F, U+2000–200D, U+202F, U+205F–2065, "
    "U+206A–206F, U+2800, U+3000, U+3164, U+E000–F8FF, U+FE00–FE0F, U+FFA0, U+FFF0–FFFF, U+1BCA0–1BCA3, U+1D173–1D17A, "
    "U+E0000 and above"
)


def page() -> str:
    """Return the whole page."""
    parts = [
        HEAD.format(
            count=len(METHODS),
            currencies=len(ISO),
            coins=len(COINS),
            risks="\n".join(map(_risk, CAPS_SAT)),
            newcomer=_btc(NEWCOMER_SAT),
            half=HALF_AFTER_DAYS,
            whole=WHOLE_AFTER_DAYS,
        )
    ]
    parts += ["## Methods\n"]
    for group, members in groupby(METHODS.values(), key=lambda m: m.group):
        parts += [_overview(GROUPS[group], list(members))]
    parts += [
        "## Fields\n\nIn the order of the wire; an empty text stands for an optional one left out.\n"
    ]
    parts += [_fields(members) for members in _alike()]
    parts += [KINDS_HEAD.format(invisible=INVISIBLE) + "\n".join(map(_kind, sorted(KINDS))) + "\n"]
    coins = "\n".join(f"| {code} | {name} | {exp} |" for code, (exp, name) in COINS.items())
    return "\n".join([*parts, FOOT.format(coins=coins)])


def _overview(title: str, members: list[Method]) -> str:
    rows = [
        f"| {m.id} | {m.name} | {_period(m.period_s)} | {m.risk.replace('_', ' ')} | {_btc(cap_sat(m.id))} | "
        f"{'yes' if m.chargeback else ''} | {' '.join(m.currencies) or 'any'} | {' '.join(m.countries) or 'any'} | {m.help} |"
        for m in members
    ]
    head = "| method | name | to pay | risk | most BTC | back | currencies | countries | |"
    return "\n".join([f"### {title}\n", head, "| --- " * 9 + "|", *rows, ""])


def _alike() -> Iterable[list[Method]]:
    """Return the methods that have the same fields together, in the registry's order."""
    found: dict[object, list[Method]] = {}
    for method in METHODS.values():
        found.setdefault(method.fields, []).append(method)
    return found.values()


def _fields(members: list[Method]) -> str:
    rows = [
        f"| {f.name} | {' or '.join(f.kinds)} | {'0, ' if f.optional else ''}{f.low} … {f.high} | "
        f"{f.help}{_rest(f.options, ' One of ', '.')}{_where(f.regions, members[0])} |"
        for f in members[0].fields
    ]
    title = ", ".join(m.id for m in members)
    return "\n".join(
        [f"**{title}**\n", "| field | kind | bytes | |", "| --- " * 4 + "|", *rows, ""]
    )


def _where(regions: tuple[str, ...], method: Method) -> str:
    if len(regions) > 6 and regions == method.countries:
        return " Of the method's countries."
    return _rest(regions, " Of ", ".")


def _kind(name: str) -> str:
    kind = KINDS[name]
    pattern = kind.shape.pattern.replace("|", "\\|")
    what = kind.what.format(span="so many", options="its options")
    return f"| {name} | {what} | {'field' if kind.bounded else f'{kind.low} … {kind.high}'} | `{pattern}` |"


def _risk(risk: str) -> str:
    lower = [
        f"{m.id} {_btc(cap_sat(m.id))}" for m in METHODS.values() if m.risk == risk and m.cap_sat
    ]
    count = sum(m.risk == risk for m in METHODS.values())
    return f"| {risk.replace('_', ' ')} | {_btc(CAPS_SAT[risk])} | {count}{_rest(lower, '; lower: ')} |"


def _rest(words: Iterable[str], before: str, after: str = "") -> str:
    text = ", ".join(words)
    return before + text + after if text else ""


def _btc(sat: int) -> str:
    return f"{sat / 10**8:.8f}".rstrip("0")


def _period(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds < 86_400 else f"{seconds // 86_400} d"
