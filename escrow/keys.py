"""Public keys: points on the curve, ECDSA and BIP 340 signatures, BIP 32 children.

Everything here works on public bytes alone; secrets live in backend_keys.py. The curve
is libsecp256k1 (coincurve). Signatures are the strict ones of docs/wire.md: DER as
BIP 66 wants it, low S (BIP 146), sighash ALL; 64 bytes for BIP 340.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from coincurve import PublicKey, PublicKeyXOnly

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

SIGHASH_ALL: Final = 1
MAX_ECDSA: Final = 72  # DER of a low-S signature (71 at most) and the sighash byte
MIN_ECDSA: Final = 9
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HARDENED: Final = 1 << 31
PURPOSE: Final = 8383  # of every key of a trade: m/8383h/coin_h/account_h/…
ESCROW_ACCOUNT: Final = 0
BACKUP_ACCOUNT: Final = 1
ARBITRATION_ACCOUNT: Final = 2
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Mismatch(InvalidRecord):
    """A well-formed signature that is not the signer's over this digest."""

    def __init__(self, field: str) -> None:
        super().__init__(field, "does not match the signer's key")


def check_point(field: str, key: object) -> bytes:
    """Return `key` if it is a compressed point of the curve. Raises InvalidRecord."""
    raw = wire.exact(field, key, 33)
    try:
        return bytes(PublicKey(raw).format())
    except ValueError:
        raise InvalidRecord(field, "is not a compressed point of the curve") from None


# ------------------------------------------------------------------ signatures


def verify_schnorr(point: bytes, message: bytes, signature: object, field: str) -> None:
    """Check a BIP 340 signature by the x-only half of `point`. Raises InvalidRecord."""
    good = False
    raw = wire.exact(field, signature, 64)
    try:
        x_only = PublicKeyXOnly(wire.blob(field, point, 33, low=32)[-32:])
        good = len(message) == 32 and x_only.verify(raw, message)
    except ValueError:
        pass
    if not good:
        raise Mismatch(field)


def check_ecdsa_form(field: str, signature: object) -> bytes:
    """Return the DER half of a strict signature with sighash ALL. Raises InvalidRecord."""
    raw = wire.blob(field, signature, MAX_ECDSA, low=MIN_ECDSA)
    if raw[-1] != SIGHASH_ALL:
        raise InvalidRecord(field, "has a sighash other than ALL")
    der = raw[:-1]
    r_length = der[3]
    s_at = 6 + r_length
    if (
        der[0] != 0x30
        or der[1] != len(der) - 2
        or der[2] != 0x02
        or s_at > len(der)
        or der[s_at - 2] != 0x02
        or der[s_at - 1] != len(der) - s_at
    ):
        raise InvalidRecord(field, "is not strict DER")
    r = _der_integer(field, der[4 : 4 + r_length])
    s = _der_integer(field, der[s_at:])
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise InvalidRecord(field, "holds a number outside the group")
    if s > ORDER // 2:
        raise InvalidRecord(field, "has a high S")
    return der


def _der_integer(field: str, raw: bytes) -> int:
    if not raw or raw[0] & 0x80 or (len(raw) > 1 and raw[0] == 0 and not raw[1] & 0x80):
        raise InvalidRecord(field, "is not strict DER")
    return int.from_bytes(raw, "big")


def verify_ecdsa(public: bytes, digest: bytes, signature: object, field: str) -> bytes:
    """Return a strict ECDSA signature (DER, low S, ALL) over a sighash. InvalidRecord."""
    der = check_ecdsa_form(field, signature)
    try:
        good = PublicKey(check_point(field, public)).verify(der, digest, hasher=None)
    except ValueError:
        good = False
    if not good:
        raise Mismatch(field)
    return der + bytes([SIGHASH_ALL])


# ------------------------------------------------------------------ derivation


def child_point(point: bytes, chain_code: bytes, index: int) -> tuple[bytes, bytes]:
    """Return the non-hardened child's point and chain code (BIP 32, CKDpub)."""
    wire.within("index", index, 0, HARDENED - 1)
    digest = hmac.digest(
        wire.exact("chain_code", chain_code, 32),
        check_point("point", point) + index.to_bytes(4, "big"),
        "sha512",
    )
    try:  # one in 2^127: BIP 32 calls such a child invalid
        return PublicKey(point).add(digest[:32]).format(), digest[32:]
    except ValueError:
        raise InvalidRecord("point", "has no child at this index") from None


def arbiter_path(seed: bytes, outpoint: bytes, network: Network) -> tuple[int, ...]:
    """Return the four indexes of the drawn arbiter's key below the arbitration account."""
    digest = wire.digest(
        wire.tag(network.name, "arbiter-key"),
        [wire.exact("seed", seed, 32), wire.exact("outpoint", outpoint, 36)],
    )
    words = (digest[i : i + 4] for i in range(0, 16, 4))
    return tuple(int.from_bytes(word, "big") & (HARDENED - 1) for word in words)


def arbiter_public(
    point: bytes, chain_code: bytes, seed: bytes, outpoint: bytes, network: Network
) -> bytes:
    """Return the drawn arbiter's escrow key from his published arbitration account."""
    for index in arbiter_path(seed, outpoint, network):
        point, chain_code = child_point(point, chain_code, index)
    return point


def trade_path(trade_id: bytes) -> tuple[int, ...]:
    """Return the nine 31-bit chunks of SHA-256(trade id), first bits first, last one of 8."""
    digest = hashlib.sha256(wire.exact("trade_id", trade_id, 32)).digest()
    bits = int.from_bytes(digest, "big")
    chunks = [bits >> shift & (HARDENED - 1) for shift in range(256 - 31, 0, -31)]
    return (*chunks, bits & 0xFF)


def bound_path(trade_id: bytes, network: Network) -> tuple[int, ...]:
    """Return the eight plain indexes below a trade's own path at which its escrow key lies.

    So the key on the chain commits to the trade's id, and by that to its TAKE and both
    traders (pay to contract): whoever shows the point and chain code above proves it.
    """
    digest = wire.digest(
        wire.tag(network.name, "escrow-key"), [wire.exact("trade_id", trade_id, 32)]
    )
    words = (digest[i : i + 4] for i in range(0, 32, 4))
    return tuple(int.from_bytes(word, "big") & (HARDENED - 1) for word in words)


def bound_public(point: bytes, chain_code: bytes, trade_id: bytes, network: Network) -> bytes:
    """Return the escrow key of a trade below its trader's point and chain code for it."""
    for index in bound_path(trade_id, network):
        point, chain_code = child_point(point, chain_code, index)
    return point


def path_text(network: Network, hardened: Sequence[int], plain: Sequence[int] = ()) -> str:
    """Return a path of the trade's keys below one's words, as BIP 32 writes it."""
    steps = [PURPOSE, network.coin_type, *hardened]
    return "m" + "".join(f"/{step}h" for step in steps) + "".join(f"/{step}" for step in plain)


# ------------------------------------------------------------------ base58check


def base58check(data: bytes) -> str:
    """Return `data` with its checksum in base58."""
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def from_base58check(field: str, text: str, length: int) -> bytes:
    """Return the `length` bytes that `text` holds. Raises InvalidRecord."""
    if not 0 < len(text) <= 200 or any(c not in _BASE58 for c in text):
        raise InvalidRecord(field, "is not base58")
    number = 0
    for c in text:
        number = number * 58 + _BASE58.index(c)
    if number.bit_length() > 8 * (length + 4):
        raise InvalidRecord(field, f"is not {length} bytes in base58")
    data = number.to_bytes(length + 4, "big")[:-4]
    if base58check(data) != text:
        raise InvalidRecord(field, "has a wrong checksum")
    return data
