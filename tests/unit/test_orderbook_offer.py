"""Offers survive the wire unchanged; nothing that is wrong in any field gets in."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from orderbook_kit import KEY, NET, NOW, OTHER, offer, signed_body

from orderbook.currencies import EXPONENTS, exponent
from orderbook.offer import MAX_BYTES, MAX_OFFER_SAT, Offer, Side, offer_record
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, works
from p2pnode.base.networks import NETWORKS

BODY = [
    "version",
    "network",
    "offer_id",
    "maker",
    "seq",
    "side",
    "currency",
    "min_sat",
    "max_sat",
    "price",
    "methods",
    "dep_b_bp",
    "dep_s_bp",
    "escrow_kinds",
    "terms",
    "expires_at",
]
MIN = NET.min_amount_sat


def with_field(name: str, value: Any) -> bytes:
    body = list(offer().body())
    body[BODY.index(name)] = value
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
        1,
        "EUR",
        200_000,
        1_000_000,
        61_240_000_000,
        ["CUSTOM"],
        1500,
        1500,
        ["wsh-2of3", "wsh-2of3-backup"],
        "no calls",
        NOW + 1500,
    ]
    assert len(signature) == 64
    assert read(raw) == offer()


def test_record_for_the_store_says_where_and_which() -> None:
    raw = offer(seq=7).to_wire(KEY)
    record = offer_record(raw, network=NET, now=NOW)
    assert (record.market, record.owner, record.id) == ("EUR", KEY.node_id, bytes(16))
    assert (record.seq, record.expires_at, record.raw) == (7, NOW + 1500, raw)
    assert record.offer == offer(seq=7)


def test_withdrawal_travels_and_says_so() -> None:
    gone = replace(offer().withdrawal(), seq=1)
    assert read(gone.to_wire(KEY)).withdrawn
    assert not offer().withdrawn


BAD = [
    ("version", [0, 2, -1, b"1", "1", []]),
    ("network", ["main", "regtest", b"sandbox", 1, "x" * 300]),
    ("offer_id", [b"", bytes(15), bytes(17), "a" * 16, 0, []]),
    ("maker", [b"", bytes(31), bytes(33), bytes(32), "m" * 32, 1]),
    ("seq", [-1, 2**32, b"0", "0", []]),
    ("side", [2, -1, 255, b"1", "sell", [1]]),
    ("currency", ["eur", "EU", "EURO", "XAU", "XXX", "ZZZ", "DEM", "E\u00dc", b"EUR", 978, ""]),
    ("min_sat", [0, -1, 1, MIN - 1, MAX_OFFER_SAT + 1, 2**63, b"1", "1"]),
    ("max_sat", [0, -1, 1, MIN - 1, MAX_OFFER_SAT + 1, 2**64 - 1, b"1", "1", []]),
    ("price", [0, -1, 2**53, 2**64 - 1, 1, b"1", "61240.00"]),
    ("methods", [[], ["SEPA"], ["CUSTOM", "CUSTOM"], ["custom"], [b"CUSTOM"], "CUSTOM", [[]], 1]),
    ("dep_b_bp", [-1, 1, 999, 5001, 10_000, 2**64 - 1, b"", "15", []]),
    ("dep_s_bp", [0, -1, 999, 5001, 10_000, 2**64 - 1, b"", "15"]),
    ("escrow_kinds", [[], ["tr-2of3"], ["wsh-2of3", "wsh-2of3"], ["wsh-2of3 "], [1], "wsh-2of3"]),
    ("escrow_kinds", [["wsh-2of3-backup", "wsh-2of3"], ["wsh-2of3-backups"]]),
    ("terms", ["x" * 501, "\u00e9" * 251, "a\nb", "\x1b[2J", "\u202e", b"text", 1, []]),
    ("expires_at", [0, -1, NOW - 1, NOW, NOW + 1801, 2**40 + 1, 2**64 - 1, b"", "soon"]),
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
        ("seq", 2**32 - 1),
        ("side", 0),
        ("currency", "JPY"),
        ("min_sat", 1_000_000),
        ("max_sat", MIN),
        ("max_sat", MAX_OFFER_SAT),
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
    at = raw.index(KEY.node_id) + 32
    assert raw[at] == 0  # seq as a fixint
    return [
        ("seq as uint8", raw[:at] + b"\xcc\x00" + raw[at + 1 :]),
        ("seq as uint64", raw[:at] + b"\xcf" + bytes(8) + raw[at + 1 :]),
        ("seq as a float", raw[:at] + b"\xcb" + bytes(8) + raw[at + 1 :]),
        ("seq as nil", raw[:at] + b"\xc0" + raw[at + 1 :]),
        ("seq as false", raw[:at] + b"\xc2" + raw[at + 1 :]),
        ("outer array16", b"\xdc\x00\x02" + raw[1:]),
        ("body as array32", b"\x92\xdd\x00\x00\x00\x10" + raw[4:]),
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
    largest = offer(terms="x" * 500, seq=2**32 - 1, max_sat=MAX_OFFER_SAT, min_sat=MAX_OFFER_SAT)
    assert len(largest.to_wire(KEY)) < 1024
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
        {"dep_b_bp": 1600},
        {"dep_s_bp": 1600},
        {"terms": "calls"},
        {"expires_at": NOW + 1501},
    ]
    hashes = {offer().hash, *(offer(**change).hash for change in changes)}
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


def test_currencies_are_iso_4217_with_their_exponents() -> None:
    assert (exponent("EUR"), exponent("JPY"), exponent("KWD"), exponent("CLF")) == (2, 0, 3, 4)
    assert len(EXPONENTS) > 150
    assert not {"XAU", "XTS", "XXX"} & set(EXPONENTS)
