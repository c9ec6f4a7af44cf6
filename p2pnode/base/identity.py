"""Who a node is: a 32-byte Ed25519 public key with a proof of work of its own.

The same key is the libp2p identity (peer id = identity multihash of the protobuf key,
libp2p peer-ids spec, "Ed25519"), so whom Noise authenticates is whom a record names.
Signatures are RFC 8032 Ed25519 as libsodium checks them: canonical S, canonical keys,
no small-order points. Sealed boxes and shared secrets use the X25519 key that the same key
converts to (`crypto_sign_ed25519_pk_to_curve25519`).
"""

import hashlib
from functools import lru_cache
from typing import Final, Self

from nacl.bindings import crypto_scalarmult
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import PublicKey, SealedBox
from nacl.signing import SigningKey, VerifyKey

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.secret import Secret

# identity multihash (0x00, 36 bytes) of the protobuf PublicKey{Type: Ed25519, Data: 32 bytes}
_PEER_ID_PREFIX: Final = bytes.fromhex("0024080112 20")
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@lru_cache(16_384)  # each answer names twenty keys, mostly known ones
def works(network: Network, node_id: bytes) -> bool:
    """Tell whether the key carries the network's proof of work."""
    hashed = wire.digest(wire.tag(network.name, "node"), [node_id])
    return wire.leading_zero_bits(hashed) >= network.identity_bits


def check_node_id(field: str, value: object, network: Network) -> bytes:
    """Return `value` if it is a key with enough work. Raises InvalidRecord."""
    node_id = wire.exact(field, value, 32)
    if not works(network, node_id):
        raise InvalidRecord(field, "is a key without the proof of work of its network")
    return node_id


def peer_id_bytes(node_id: bytes) -> bytes:
    """Return the libp2p peer id's bytes."""
    return _PEER_ID_PREFIX + node_id


def peer_id(node_id: bytes) -> str:
    """Return the libp2p peer id as text (base58btc, "12D3Koo…")."""
    number, out = int.from_bytes(peer_id_bytes(node_id), "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = _BASE58[digit] + out
    return "1" + out  # the multihash code 0x00 is a leading zero byte


def node_id_of(text: str) -> bytes:
    """Return the node id inside a base58 Ed25519 peer id. Raises InvalidRecord."""
    if not 50 <= len(text) <= 54 or any(c not in _BASE58 for c in text):
        raise InvalidRecord("peer_id", "is not a base58 Ed25519 peer id (12D3Koo…)")
    number = 0
    for c in text:
        number = number * 58 + _BASE58.index(c)
    raw = number.to_bytes(40, "big")[-38:] if number < 1 << 320 else b""
    if raw[:6] != _PEER_ID_PREFIX or peer_id(raw[6:]) != text:
        raise InvalidRecord("peer_id", "is not a base58 Ed25519 peer id (12D3Koo…)")
    return raw[6:]


@lru_cache(16_384)
def dht_id(node_id: bytes) -> bytes:
    """Return the node's place in the DHT: SHA-256 of its peer id's bytes."""
    return hashlib.sha256(peer_id_bytes(node_id)).digest()


def verify(field: str, node_id: bytes, message: bytes, signature: object) -> None:
    """Check a strict Ed25519 signature. Raises InvalidRecord naming `field`."""
    try:
        VerifyKey(node_id).verify(message, wire.exact(field, signature, 64))
    except (BadSignatureError, ValueError):
        raise InvalidRecord(field, "does not match the signer's key") from None


def _x25519(node_id: bytes) -> PublicKey:
    """Return a key's X25519 form. Raises InvalidRecord for a point not of the main subgroup."""
    try:
        return VerifyKey(wire.exact("node_id", node_id, 32)).to_curve25519_public_key()
    except CryptoError:
        raise InvalidRecord("node_id", "is not a key of large order") from None


def seal(node_id: bytes, plaintext: bytes) -> bytes:
    """Return a NaCl sealed box, 48 bytes longer, that `node_id` alone opens.

    It names neither side. Raises InvalidRecord if `node_id` is no usable key.
    """
    return SealedBox(_x25519(node_id)).encrypt(plaintext)


class Identity:
    """A node's own key. Its repr shows the public half alone."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.node_id = bytes(self._key.verify_key)

    def __repr__(self) -> str:
        return f"Identity({self.node_id.hex()})"

    @classmethod
    def grind(cls, network: Network, master: bytes) -> Self:
        """Return the first key of the chain under `master` that carries the work.

        Seed i is SHA-256(tag || [master, i]), so the wallet's words restore it.
        """
        domain = wire.tag(network.name, "node-seed")
        for i in range(1 << 40):
            identity = cls(wire.digest(domain, [master, i]))
            if works(network, identity.node_id):
                return identity
        raise AssertionError("unreachable: 2^40 draws without the work")

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over `message`."""
        return self._key.sign(message).signature

    def secret_seed(self) -> bytes:
        """Return the 32-byte seed, for the transport that must prove the same key."""
        return bytes(self._key)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what was sealed to this node. Raises InvalidRecord if nothing was."""
        try:
            return SealedBox(self._key.to_curve25519_private_key()).decrypt(sealed)
        except (CryptoError, ValueError, TypeError):
            raise InvalidRecord("sealed", "does not open with this node's key") from None

    def shared_secret(self, node_id: bytes) -> Secret[bytes]:
        """Return the X25519 secret (RFC 7748) that this node and another alone can compute.

        Raises InvalidRecord if `node_id` is no usable key.
        """
        own, theirs = self._key.to_curve25519_private_key(), _x25519(node_id)
        try:
            return Secret(crypto_scalarmult(bytes(own), bytes(theirs)))
        except CryptoError:
            raise InvalidRecord("node_id", "is not a key of large order") from None
