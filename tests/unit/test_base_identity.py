"""Node keys: RFC 8032, libp2p's own peer ids, and work that cannot be skipped."""

import pytest

from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS

SANDBOX = NETWORKS["sandbox"]
# RFC 8032, section 7.1, tests 1 and 3
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC8032)
def test_rfc_8032(seed, public, message, signature):
    key = Identity(bytes.fromhex(seed))
    assert key.node_id.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    identity.verify("s", key.node_id, bytes.fromhex(message), bytes.fromhex(signature))


def test_a_signature_has_one_spelling():
    key = Identity(bytes(32))
    good = key.sign(b"m")
    s = int.from_bytes(good[32:], "little") + ORDER
    with pytest.raises(InvalidRecord):
        identity.verify("sig", key.node_id, b"m", good[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "small", [bytes(32), b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")]
)
def test_small_order_keys_sign_nothing(small):
    with pytest.raises(InvalidRecord):
        identity.verify("sig", small, b"m", small + bytes(32))


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), "x" * 64, None])
def test_a_wrong_signature_names_its_field(signature):
    with pytest.raises(InvalidRecord) as caught:
        identity.verify("offer_signature", Identity(bytes(32)).node_id, b"m", signature)
    assert caught.value.field == "offer_signature"


def test_peer_ids_are_libp2ps():
    from libp2p.crypto.ed25519 import Ed25519PublicKey
    from libp2p.peer.id import ID

    for i in range(20):
        node_id = Identity(bytes([i]) * 32).node_id
        theirs = ID.from_pubkey(Ed25519PublicKey.from_bytes(node_id))
        assert identity.peer_id(node_id) == str(theirs)
        assert identity.peer_id_bytes(node_id) == theirs.to_bytes()
        assert identity.node_id_of(str(theirs)) == node_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # RSA
        "1" + "z" * 51,
        "12D3KooWR3Z8BDf9fJoWV4ZRQGJBTne54SHSBPUttQbxgYCwt2y0",  # 0 is not base58
    ],
)
def test_other_peer_ids_are_refused(text):
    with pytest.raises(InvalidRecord):
        identity.node_id_of(text)


def test_grinding_is_repeatable_and_carries_the_work():
    first, again = (Identity.grind(SANDBOX, b"m" * 32) for _ in range(2))
    assert first.node_id == again.node_id
    assert identity.check_node_id("maker", first.node_id, SANDBOX) == first.node_id
    hashed = wire.digest(wire.tag("sandbox", "node"), [first.node_id])
    assert hashed[0] == 0
    assert Identity.grind(NETWORKS["regtest"], b"m" * 32).node_id != first.node_id


def test_a_key_without_work_is_refused():
    lazy = next(
        key
        for i in range(256)
        if not identity.works(SANDBOX, key := Identity(bytes([i]) * 32).node_id)
    )
    with pytest.raises(InvalidRecord) as caught:
        identity.check_node_id("maker", lazy, SANDBOX)
    assert caught.value.field == "maker"


def test_repr_shows_the_public_half_alone():
    key = Identity(b"\x07" * 32)
    assert key.secret_seed().hex() not in repr(key)
    assert key.node_id.hex() in repr(key)
