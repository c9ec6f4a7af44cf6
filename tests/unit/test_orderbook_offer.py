"""Offers survive the wire unchanged; nothing that is wrong in any field gets in."""

from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from orderbook_kit import KEY, NET, NOW, OTHER, offer, signed_body

from orderbook import work
from orderbook.currencies import EXPONENTS, exponent
from orderbook.methods import METHODS
from orderbook.offer import MAX_BYTES, MAX_OFFER_SAT, Offer, Side, offer_record
from orderbook.offer_bounds import MAX_COUNTRIES, MAX_FREE_SAT, MAX_LANGUAGES, MAX_LIST
from orderbook.places import COUNTRIES, languages
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, works
from p2pnode.base.networks import NETWORKS

BODY = ["version", "network", *(f.name for f in fields(Offer) if f.name != "network")]
MIN = NET.min_amount_sat


def with_field(name: str, value: Any, *, rework: bool = True) -> bytes:
    """Sign the usual offer with one other value, and the work that its place then asks for."""
    body = list(offer().body())
    body[BODY.index(name)] = value
    if rework and name in {"maker", "slot", "currency", "expires_at"}:
        place = [body[BODY.index(n)] for n in ("maker", "currency", "slot", "expires_at")]
        if [type(v) for v in place] == [bytes, str, int, int] and 0 <= place[2] < 64:
            *rest, expires_at = place
            found = work.find(NET, *rest, expires_at // 86_400, start=0, tries=1 << 20)
            body[BODY.index("work")] = found
    return signed_body(body)


def read(raw: object, now: int = NOW, network: Any = NET) -> Offer:
    return Offer.from_wire(raw, network=network, now=now)


def test_the_wire_form_is_the_documented_one() -> None:
    raw = offer().to_wire(KEY)
    body, signature = msgpack.unpackb(raw, raw=False)
    assert body == [
        1,
        "sandbox",
        bytes(16),
        KEY.node_id,
        0,
        0,
        1,
        "EUR",
        200_000,
        1_000_000,
        61_240_000_000,
        0,
        ["CUSTOM"],
        [],
        1500,
        1500,
        0,
        0,
        ["wsh-2of3", "wsh-2of3-backup"],
        [],
        "no calls",
        0,
        0,
        0,
        NOW + 1500,
        offer().work,
    ]
    assert len(signature) == 64
    assert read(raw) == offer()


def test_record_for_the_store_says_where_and_which() -> None:
    raw = offer(seq=7).to_wire(KEY)
    record = offer_record(raw, network=NET, now=NOW)
    assert (record.market, record.owner, record.id) == ("EUR", KEY.node_id, bytes(1))
    assert (record.seq, record.expires_at, record.raw) == (7, NOW + 1500, raw)
    assert record.offer == offer(seq=7)


def test_withdrawal_travels_and_says_so() -> None:
    gone = replace(offer().withdrawal(), seq=1)
    assert read(gone.to_wire(KEY)).withdrawn
    assert not offer().withdrawn


BIG = 2**64 - 1
BAD: list[tuple[str, list[Any]]] = [
    ("version", [0, 2, -1, b"1", "1", []]),
    ("network", ["main", "regtest", b"sandbox", 1, "x" * 300]),
    ("offer_id", [b"", bytes(15), bytes(17), "a" * 16, 0, []]),
    ("maker", [b"", bytes(31), bytes(33), bytes(32), "m" * 32, 1]),
    ("slot", [-1, 64, BIG, b"0", "0", []]),
    ("seq", [-1, 2**40 + 1, BIG, b"0", "0", []]),
    ("side", [2, -1, 255, b"1", "sell", [1]]),
    ("currency", ["eur", "EU", "EURO", "XAU", "XXX", "ZZZ", "E\u00dc", b"EUR", 978, ""]),
    ("currency", ["\u0415UR", "EU\uff32", "EU\u200b", "E\u202e", "EU\x00", "\x1b[m"]),
    ("min_sat", [0, -1, 1, MIN - 1, MAX_OFFER_SAT + 1, 2**63, b"1", "1"]),
    ("max_sat", [0, -1, 1, MIN - 1, MAX_OFFER_SAT + 1, BIG, b"1", "1", []]),
    ("price", [-1, 2**53, BIG, 1, b"1", "61240.00"]),
    ("margin_bp", [1, -1, 5000, 5001, -5001, BIG, b"", "1", []]),  # beside a fixed price
    ("methods", [[], ["CUSTOM", "CUSTOM"], ["custom"], [b"CUSTOM"], "CUSTOM", [[]], 1]),
    ("methods", [["NO_SUCH_METHOD"], ["CUST\u041eM"], ["CUSTOM\u200b"], ["\x1b[2J"], ["x" * 33]]),
    ("methods", [["CUSTOM"] * 17, [""], ["CUSTOM", ""]]),
    ("countries", [["de"], ["DEU"], ["XX"], ["D\u0415"], [b"DE"], "DE", 1, [1]]),
    ("countries", [["FR", "DE"], ["DE", "DE"], ["DE"] * 65, [""], ["D\x00"], ["\u202eE"]]),
    ("dep_b_bp", [-1, 1, 999, 5001, 10_000, BIG, b"", "15", []]),
    ("dep_s_bp", [0, -1, 999, 5001, 10_000, BIG, b"", "15"]),
    ("peer_trades", [-1, 65, BIG, b"", "1", []]),
    ("peer_days", [-1, 3651, BIG, b"", "1", []]),
    ("escrow_kinds", [[], ["tr-2of3"], ["wsh-2of3", "wsh-2of3"], ["wsh-2of3 "], [1], "wsh-2of3"]),
    ("escrow_kinds", [["wsh-2of3-backup", "wsh-2of3"], ["wsh-2of3-backups"]]),
    ("languages", [["EN"], ["eng"], ["xx"], ["e"], [b"en"], "en", 1, ["\u0435n"], ["e\u200b"]]),
    ("languages", [["fr", "en"], ["en", "en"], ["en"] * 9]),
    ("terms", ["x" * 501, "\u00e9" * 251, "a\nb", "\x1b[2J", "\u202e", b"text", 1, []]),
    ("terms", ["\x00", "\x7f", "\x9b31m", "\u2028", "\u2066x", "\ufeff", "\u061c"]),
    ("said_trades", [-1, 2**31 + 1, BIG, b"", "1", []]),
    ("said_partners", [-1, 1, 2**31, BIG, b"", "1"]),  # more than said_trades, which is 0
    ("said_since", [-1, 2**40 + 1, BIG, b"", "now"]),
    ("expires_at", [0, -1, NOW - 1, NOW, NOW + 1801, 2**40 + 1, BIG, b"", "soon"]),
    ("work", [-1, 2**62 + 1, BIG, b"", "1", []]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD for value in values]
)
def test_each_bad_value_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        read(with_field(name, value))
    assert caught.value.field == name
    assert str(caught.value).startswith(f"{name}: ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slot", 63),
        ("seq", 2**40),
        ("side", 0),
        ("currency", "JPY"),
        ("min_sat", 1_000_000),
        ("max_sat", MIN),
        ("max_sat", MAX_OFFER_SAT),
        ("methods", ["CUSTOM"]),
        ("countries", ["AT", "DE", "FR"]),
        ("languages", ["de", "en"]),
        ("peer_trades", 64),
        ("peer_days", 3650),
        ("said_trades", 2**31),
        ("said_since", 2**40),
        ("dep_b_bp", 0),
        ("dep_b_bp", 1000),
        ("escrow_kinds", ["wsh-2of3"]),
        ("escrow_kinds", ["wsh-2of3-backup"]),
        ("dep_s_bp", 5000),
        ("terms", ""),
        ("terms", "x" * 500),
        ("terms", "\u00e9" * 250),
        ("expires_at", NOW + 1),
        ("expires_at", NOW + 1800),
    ],
)
def test_values_on_their_bounds_are_taken(name: str, value: Any) -> None:
    read(with_field(name, value))


def test_a_price_that_makes_nothing_or_too_much_of_the_range_is_named() -> None:
    with pytest.raises(InvalidRecord, match="price: makes min_sat worth less"):
        offer(price=2_000_000)
    with pytest.raises(InvalidRecord, match="margin_bp: is not an integer in -5000"):
        offer(price=0, margin_bp=5001)
    with pytest.raises(InvalidRecord, match="price: makes max_sat worth over"):
        offer(price=2**53 - 1, max_sat=MAX_OFFER_SAT)


def test_a_true_is_not_a_one() -> None:
    body = list(offer().body())
    body[BODY.index("seq")] = True
    with pytest.raises(InvalidRecord):
        read(msgpack.packb([body, bytes(64)]))
    with pytest.raises(InvalidRecord, match="min_sat"):
        offer(min_sat=False, max_sat=0)


def test_missing_and_surplus_fields_are_refused() -> None:
    body = offer().body()
    for wrong in (body[:-1], (*body, 0), (), body[0]):
        with pytest.raises(InvalidRecord):
            read(signed_body(wrong))


def spellings() -> list[tuple[str, bytes]]:
    raw = offer(seq=0).to_wire(KEY)
    body, signature = msgpack.unpackb(raw, raw=False, use_list=False)
    at = raw.index(KEY.node_id) + 33
    assert raw[at] == 0  # seq as a fixint, behind the slot
    return [
        ("seq as uint8", raw[:at] + b"\xcc\x00" + raw[at + 1 :]),
        ("seq as uint64", raw[:at] + b"\xcf" + bytes(8) + raw[at + 1 :]),
        ("seq as a float", raw[:at] + b"\xcb" + bytes(8) + raw[at + 1 :]),
        ("seq as nil", raw[:at] + b"\xc0" + raw[at + 1 :]),
        ("seq as false", raw[:at] + b"\xc2" + raw[at + 1 :]),
        ("outer array16", b"\xdc\x00\x02" + raw[1:]),
        ("body as array32", b"\x92\xdd\x00\x00\x00\x1a" + raw[4:]),
        ("trailing byte", raw + b"\x00"),
        ("twice", raw + raw),
        ("cut short", raw[:-1]),
        ("a map", msgpack.packb({"body": body, "signature": signature})),
        ("body as a map", msgpack.packb([dict(enumerate(body)), signature])),
        ("body as bytes", msgpack.packb([msgpack.packb(body), signature])),
        ("an ext type", msgpack.packb([msgpack.ExtType(1, b"x"), signature])),
        ("a timestamp", msgpack.packb([msgpack.Timestamp(1, 0), signature])),
        ("offer_id as text", msgpack.packb([[*body[:2], "a" * 16, *body[3:]], signature])),
        ("old raw type", msgpack.packb([body, signature], use_bin_type=False)),
        ("a list of three", msgpack.packb([body, signature, signature])),
        ("deep nesting", b"\x91" * 1000 + b"\x00"),
        ("nothing", b""),
        ("an integer", b"\x01"),
    ]


@pytest.mark.parametrize(("what", "raw"), spellings(), ids=lambda v: v if type(v) is str else "")
def test_other_spellings_are_refused(what: str, raw: bytes) -> None:
    with pytest.raises(InvalidRecord):
        read(raw)


@pytest.mark.parametrize("raw", [None, "text", 7, {"value": b""}, [], bytearray(b"\x92")])
def test_storage_may_return_anything(raw: object) -> None:
    with pytest.raises(InvalidRecord):
        read(raw)


def test_the_largest_honest_offer_fits_and_more_bytes_are_not_even_parsed() -> None:
    largest = offer(
        terms="x" * 500,
        seq=2**40,
        max_sat=MAX_OFFER_SAT,
        min_sat=MAX_OFFER_SAT,
        methods=tuple(sorted(sorted(METHODS, key=len)[-MAX_LIST:])),
        countries=tuple(sorted(COUNTRIES)[:MAX_COUNTRIES]),
        languages=tuple(sorted(languages())[:MAX_LANGUAGES]),
        slot=63,
        said_trades=2**31,
        said_partners=2**31,
        said_since=2**40,
        peer_trades=64,
        peer_days=3650,
    )
    assert len(largest.to_wire(KEY)) < MAX_BYTES
    assert read(largest.to_wire(KEY)) == largest
    with pytest.raises(InvalidRecord, match=f"1 to {MAX_BYTES} bytes"):
        read(with_field("terms", "x" * 2000))


def test_wrong_signers_are_refused() -> None:
    body = offer().body()
    with pytest.raises(InvalidRecord, match="signature"):
        read(wire.pack((body, OTHER.sign(offer().hash))))
    with pytest.raises(InvalidRecord, match="signature"):
        read(wire.pack((body, KEY.sign(wire.pack(body)))))
    with pytest.raises(InvalidRecord, match="signature"):
        read(wire.pack((body, bytes(63))))
    with pytest.raises(ValueError, match="maker"):
        offer().to_wire(OTHER)


def test_a_signature_for_another_kind_or_network_is_not_one_for_an_offer() -> None:
    body = offer().body()
    for domain in (wire.tag("sandbox", "contract"), wire.tag("regtest", "offer")):
        with pytest.raises(InvalidRecord, match="signature"):
            read(wire.pack((body, KEY.sign(wire.digest(domain, body)))))


def test_an_offer_of_one_network_is_refused_on_another() -> None:
    with pytest.raises(InvalidRecord, match="network: is not regtest"):
        read(offer().to_wire(KEY), network=NETWORKS["regtest"])


def test_a_maker_without_the_identity_work_is_refused() -> None:
    lazy = next(
        i for i in (Identity(bytes(31) + bytes([n])) for n in range(9)) if not works(NET, i.node_id)
    )
    body = list(offer().body())
    body[3] = lazy.node_id
    raw = wire.pack((body, lazy.sign(wire.digest(wire.tag("sandbox", "offer"), body))))
    with pytest.raises(InvalidRecord, match="maker: is a key without the proof of work"):
        read(raw)


def test_an_offer_ends_on_the_second() -> None:
    raw = offer().to_wire(KEY)
    assert read(raw, now=NOW + 1499)
    with pytest.raises(InvalidRecord, match="expires_at: is over by 0 s"):
        read(raw, now=NOW + 1500)


def test_hash_changes_with_every_field_of_the_body() -> None:
    changes: list[dict[str, Any]] = [
        {"offer_id": bytes([1]) * 16},
        {"maker": OTHER.node_id},
        {"seq": 1},
        {"side": Side.BUY},
        {"currency": "USD"},
        {"min_sat": 300_000},
        {"max_sat": 900_000},
        {"price": 61_240_000_001},
        {"slot": 1},
        {"price": 0},
        {"price": 0, "margin_bp": 1},
        {"countries": ("DE",)},
        {"languages": ("de",)},
        {"peer_trades": 1},
        {"peer_days": 1},
        {"escrow_kinds": ("wsh-2of3",)},
        {"said_trades": 1},
        {"said_trades": 1, "said_partners": 1},
        {"said_since": 1},
        {"work": offer().work + 1},
        {"dep_b_bp": 1600},
        {"dep_s_bp": 1600},
        {"terms": "calls"},
        {"expires_at": NOW + 1501},
    ]
    hashes = {offer().hash, *(replace(offer(), **change).hash for change in changes)}
    assert len(hashes) == len(changes) + 1


@pytest.mark.parametrize(
    ("bp", "amount", "deposit"),
    [(1000, 200_001, 20_001), (1500, 1_000_000, 150_000), (5000, 200_001, 100_000)],
)
def test_deposits_meet_the_contracts_bounds(bp: int, amount: int, deposit: int) -> None:
    assert offer(dep_b_bp=bp, dep_s_bp=1500).deposits(amount)[0] == deposit
    assert -(-amount // 10) <= deposit <= amount // 2


def test_a_buyer_may_owe_no_deposit_and_a_seller_may_not() -> None:
    assert offer(dep_b_bp=0, dep_s_bp=1500).deposits(1_000_000) == (0, 150_000)
    with pytest.raises(InvalidRecord, match="dep_s_bp"):
        offer(dep_s_bp=0)
    with pytest.raises(InvalidRecord, match="dep_b_bp"):
        offer(dep_b_bp=False)


# -- floating prices, free deposits, work


@pytest.mark.parametrize(
    ("margin_bp", "reference", "price"),
    [
        (0, 61_240_000_000, 61_240_000_000),
        (120, 61_240_000_000, 61_974_880_000),
        (-5000, 3, 2),  # 1.5, half up
        (1, 4999, 4999),
        (1, 5000, 5001),
        (5000, 2**53 - 1, 2**53 - 1),  # never over what a price may be
        (100, 0, 0),
    ],
)
def test_a_margin_is_rounded_half_up_and_nothing_is_made_of_no_reference(
    margin_bp: int, reference: int, price: int
) -> None:
    made = offer(price=0, margin_bp=margin_bp)
    assert made.floating
    assert made.price_at(reference) == price
    assert offer().price_at(reference) == offer().price


def test_a_price_is_fixed_or_a_margin_and_not_both() -> None:
    with pytest.raises(InvalidRecord, match="margin_bp: stands beside a fixed price"):
        offer(margin_bp=1)


def test_without_a_buyers_deposit_the_amount_is_capped() -> None:
    assert offer(dep_b_bp=0, max_sat=MAX_FREE_SAT)
    with pytest.raises(InvalidRecord, match=f"max_sat: is not an integer in .*{MAX_FREE_SAT}"):
        offer(dep_b_bp=0, max_sat=MAX_FREE_SAT + 1)


@pytest.mark.parametrize(("slot", "bits"), [(0, 8), (7, 8), (8, 9), (31, 11), (63, 15)])
def test_work_grows_with_the_slot_and_too_little_of_it_is_refused(slot: int, bits: int) -> None:
    assert work.needed_bits(NET, slot) == bits
    good = offer(slot=slot)
    assert good.work_bits >= bits
    assert read(good.to_wire(KEY))
    at = next(n for n in range(1000) if replace(good, work=n).work_bits < bits)
    lazy = replace(good, work=at)
    with pytest.raises(InvalidRecord, match=f"work: has {lazy.work_bits} zero bits of {bits} for"):
        read(lazy.to_wire(KEY))


def test_work_is_bound_to_maker_market_slot_and_day_and_to_nothing_else() -> None:
    good = offer()
    other = {"price": 10**10, "terms": "", "seq": 9, "dep_b_bp": 0, "expires_at": NOW + 1501}
    assert replace(good, **other).work_bits == good.work_bits
    bound: list[dict[str, Any]] = [
        {"maker": OTHER.node_id},
        {"currency": "USD"},
        {"slot": 1},
        {"expires_at": NOW + 86_400},
    ]
    assert all(replace(good, **change).work_bits != good.work_bits for change in bound)


def test_currencies_are_iso_4217_with_their_exponents() -> None:
    assert (exponent("EUR"), exponent("JPY"), exponent("KWD"), exponent("CLF")) == (2, 0, 3, 4)
    assert len(EXPONENTS) > 150
    assert not {"XAU", "XTS", "XXX"} & set(EXPONENTS)
