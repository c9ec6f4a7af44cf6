"""A message of every kind, byte for byte, so that another implementation can check itself."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from nacl.signing import VerifyKey
from trade_facts import NET, Play, identity, record
from trade_said import one_of_each

from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract
from escrow.messages import MAX_PAYLOAD, ZERO, Kind, Message
from escrow.payloads import PAYLOADS, decode
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS

VECTORS = Path(__file__).parents[1] / "vectors" / "messages.json"


def everything() -> dict[str, Message]:
    """One message of each kind, by name."""
    return {kind.name: message for kind, message in one_of_each().items()}


def vectors() -> dict[str, Any]:
    play = Play().open()
    return {
        "network": NET.name,
        "messages": [
            {
                "kind": name,
                "number": int(message.kind),
                "sender": message.sender.hex(),
                "payload": message.payload.hex(),
                "id": message.id.hex(),
                "wire": message.wire().hex(),
            }
            for name, message in everything().items()
        ],
        "arbiter_record": {"id": record(0).id.hex(), "wire": record(0).wire().hex()},
        "contract": {"hash": play.contract.hash.hex(), "wire": play.contract.wire().hex()},
    }


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(VECTORS.read_text())
    return found


def test_the_vectors_are_what_the_node_writes() -> None:
    made = vectors()
    if os.environ.get("P2PNODE_RENEW"):
        VECTORS.write_text(json.dumps(made, indent=1) + "\n")
    assert stored() == made


def test_every_kind_has_a_vector_and_a_payload() -> None:
    assert {m["number"] for m in stored()["messages"]} == set(Kind) == set(PAYLOADS)


@pytest.mark.parametrize("kind", [k.name for k in Kind])
def test_a_vector_by_other_means(kind: str) -> None:
    """msgpack, SHA-256 and Ed25519 alone, as docs/wire.md says."""
    vector = next(m for m in stored()["messages"] if m["kind"] == kind)
    body, signature, payload = msgpack.unpackb(bytes.fromhex(vector["wire"]), use_list=False)
    assert body[0] == 1
    assert body[1] == vector["number"]
    assert body[3].hex() == vector["sender"]
    assert body[11] == hashlib.sha256(payload).digest()
    tag = b"p2pnode/sandbox/message/1\0"
    message_id = hashlib.sha256(tag + msgpack.packb(body, use_bin_type=True)).digest()
    assert message_id.hex() == vector["id"]
    VerifyKey(body[3]).verify(message_id, signature)
    assert msgpack.packb(msgpack.unpackb(payload), use_bin_type=True) == payload


@pytest.mark.parametrize("kind", [k.name for k in Kind])
def test_a_vector_is_read_and_written_back(kind: str) -> None:
    vector = next(m for m in stored()["messages"] if m["kind"] == kind)
    message = Message.from_wire(bytes.fromhex(vector["wire"]), NET)
    assert message.wire().hex() == vector["wire"]
    assert message.id.hex() == vector["id"]
    payload = decode(message.kind, message.payload)
    assert payload.wire().hex() == vector["payload"]


def test_record_and_contract_are_read_and_written_back() -> None:
    made = stored()
    raw = bytes.fromhex(made["arbiter_record"]["wire"])
    assert ArbiterRecord.from_wire(raw, NET).wire() == raw
    raw = bytes.fromhex(made["contract"]["wire"])
    contract = Contract.from_wire(raw, NET)
    assert (contract.wire(), contract.hash.hex()) == (raw, made["contract"]["hash"])


@pytest.mark.parametrize("network", ["regtest", "main"])
@pytest.mark.parametrize("kind", [k.name for k in Kind])
def test_nothing_is_valid_on_another_network(kind: str, network: str) -> None:
    with pytest.raises(InvalidRecord):
        Message.from_wire(everything()[kind].wire(), NETWORKS[network])


# ------------------------------------------------------------------ the header


def altered(**change: Any) -> bytes:
    """A message with a header field changed and signed anew by its sender."""
    play = Play().open()
    message = replace(play.messages[1], signature=b"", **change)
    signer = identity("maker") if message.sender == identity("maker").node_id else None
    return (message.signed(signer) if signer else message).wire()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trade_id": ZERO}, "trade_id"),
        ({"trade_id": bytes(31)}, "trade_id"),
        ({"recipient": identity("maker").node_id}, "recipient"),
        ({"recipient": b""}, "recipient"),
        ({"seq": 1}, "prev"),
        ({"seq": -1}, "seq"),
        ({"seq": 10_001}, "seq"),
        ({"seq": 999}, "prev"),
        ({"seq": 1001}, "prev"),
        ({"seq": 1000, "prev": bytes([1]) * 32}, "prev"),
        ({"prev": bytes([1]) * 32}, "prev"),
        ({"seen": bytes(33)}, "seen"),
        ({"tip_height": -1}, "tip_height"),
        ({"tip_height": 500_000_000}, "tip_height"),
        ({"tip_hash": b""}, "tip_hash"),
        ({"draw_no": -1}, "draw_no"),
        ({"draw_no": 2**40 + 1}, "draw_no"),
        ({"payload": b""}, "payload"),
        ({"payload": bytes(MAX_PAYLOAD + 1)}, "payload"),
        ({"sender": bytes(32)}, "sender"),
        ({"kind": 0}, "kind"),
        ({"kind": max(Kind) + 1}, "kind"),
        ({"kind": Kind.TAKE}, "trade_id"),
        ({"kind": Kind.PAID}, "draw_no"),
    ],
)
def test_a_header_out_of_bounds_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Message.from_wire(altered(**change), NET)
    assert caught.value.field in {field, "message"}
    if "payload" not in change:
        assert caught.value.field == field


@pytest.mark.parametrize("line", range(12))
def test_every_header_line_is_signed(line: int) -> None:
    message = everything()["DRAW"]
    body = list(message.body())
    body[line] = (
        body[line] + 1 if type(body[line]) is int else bytes([body[line][0] ^ 1]) + body[line][1:]
    )
    raw = wire.pack((tuple(body), message.signature, message.payload))
    with pytest.raises(InvalidRecord):
        Message.from_wire(raw, NET)


def test_a_chain_begun_afresh_is_read() -> None:
    """Whoever has lost his place goes on at the next multiple of 1,000, with prev zero."""
    for seq in (1000, 2000, 10_000):
        raw = altered(kind=Kind.CHAT, seq=seq, draw_no=0)
        assert Message.from_wire(raw, NET).seq == seq


def test_a_payload_is_bound_by_its_hash_and_a_signature_by_its_signer() -> None:
    message = everything()["PAID"]
    for bad, field in (
        ((message.body(), message.signature, message.payload + b"\0"), "payload_hash"),
        ((message.body(), bytes(64), message.payload), "signature"),
        ((message.body(), message.signature[:-1], message.payload), "signature"),
        ((message.body(), everything()["ACK"].signature, message.payload), "signature"),
    ):
        with pytest.raises(InvalidRecord) as caught:
            Message.from_wire(wire.pack(bad), NET)
        assert caught.value.field == field


def test_a_signature_with_a_high_s_is_refused() -> None:
    """Ed25519: S + L verifies in lax libraries and would make a second spelling."""
    message = everything()["PAID"]
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(message.signature[32:], "little") + order
    lax = message.signature[:32] + s.to_bytes(32, "little")
    with pytest.raises(InvalidRecord, match="signature"):
        Message.from_wire(wire.pack((message.body(), lax, message.payload)), NET)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(ValueError, match="does not belong to the sender"):
        everything()["PAID"].signed(identity("maker"))
