"""Addresses on other chains than Bitcoin's: Monero, Liquid, Lightning.

Monero: standard address, subaddress and integrated address of its main network, in Base58
by blocks of eight bytes, checked by Keccak-256 (Monero's `src/common/base58.cpp`).
Liquid: confidential addresses in blech32 or blech32m and in Base58Check, plain ones in
bech32 or bech32m (Elements' `src/blech32.cpp`; BIP 173, BIP 350).
Lightning: an address name@host (LUD-16), an LNURL in bech32 (LUD-01), an offer (BOLT 12),
which has no checksum.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from orderbook.method_fields import Kind, Rules, Unfit
from p2pnode.base import address
from p2pnode.base.errors import InvalidRecord

_MISTYPED: Final = "is mistyped: its checksum does not match"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

# ------------------------------------------------------------------ Monero

_BLOCK: Final = 11  # characters for eight bytes
_BYTES_OF: Final = {2: 1, 3: 2, 5: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8}
_MONERO: Final = {18: 69, 42: 69, 19: 77}  # network byte: bytes with the checksum
_KECCAK: Final = 4  # bytes of it behind the rest


def _monero(text: str, rules: Rules) -> str:
    from Crypto.Hash import keccak

    raw = b""
    for start in range(0, len(text), _BLOCK):
        block = text[start : start + _BLOCK]
        size, number = _BYTES_OF.get(len(block), 0), _number(block)
        if number >> 8 * size:
            raise Unfit(_MISTYPED)
        raw += number.to_bytes(size, "big")
    body, check = raw[:-_KECCAK], raw[-_KECCAK:]
    if keccak.new(digest_bits=256, data=body).digest()[:_KECCAK] != check:
        raise Unfit(_MISTYPED)
    if _MONERO.get(raw[0]) != len(raw):
        raise Unfit("is no address of Monero's main network: those begin with 4 or 8")
    return text


def _number(text: str) -> int:
    number = 0
    for letter in text:
        number = 58 * number + _BASE58.index(letter)
    return number


# ------------------------------------------------------------------ Liquid

_LIQUID_KEYS: Final = {12: 59, 39: 25, 57: 25}  # version: bytes with the checksum
_BECH32: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BLECH32: Final = (
    0x7D52FBA40BD886,
    0x5E8DBF1A03950C,
    0x1C3A3C74072A18,
    0x385D72FA0E5139,
    0x7093E5A608865B,
)
_BLECH32M: Final = 0x455972A3350F7A1


def _liquid(text: str, rules: Rules) -> str:
    if text.lower().startswith("lq1"):
        low = _one_case(text)
        if _residue("lq", low[3:], _BLECH32, 60) not in (1, _BLECH32M):
            raise Unfit(_MISTYPED)
        return low
    if text.lower().startswith("ex1"):
        try:
            address.decode("address", text, "ex")
        except InvalidRecord as error:
            raise Unfit(str(error).removeprefix("address: ")) from None
        return text.lower()
    return _base58_check(text)


def _base58_check(text: str) -> str:
    if any(letter not in _BASE58 for letter in text):
        raise Unfit("is no Liquid address: those begin with lq1, ex1, V, G or Q")
    number = _number(text)
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    check = hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4]
    if len(raw) < 5 or check != raw[-4:]:
        raise Unfit(_MISTYPED)
    if _LIQUID_KEYS.get(raw[0]) != len(raw) or (raw[0] == 12 and raw[1] not in (39, 57)):
        raise Unfit("is no Liquid address: those begin with lq1, ex1, V, G or Q")
    return text


def _one_case(text: str) -> str:
    if text not in (text.lower(), text.upper()):
        raise Unfit("mixes upper and lower case")
    return text.lower()


def _residue(prefix: str, rest: str, generator: Sequence[int], width: int) -> int:
    """Return what a bech32 code of `width` checksum bits leaves: its constant, if untouched."""
    values: Iterable[int] = (
        *(ord(c) >> 5 for c in prefix),
        0,
        *(ord(c) & 31 for c in prefix),
        *(_BASE32.find(c) & 31 for c in rest),
    )
    if any(c not in _BASE32 for c in rest):
        raise Unfit(_MISTYPED)
    check = 1
    for value in values:
        top = check >> (width - 5)
        check = (check & ((1 << (width - 5)) - 1)) << 5 ^ value
        for bit, term in enumerate(generator):
            if top >> bit & 1:
                check ^= term
    return check


# ------------------------------------------------------------------ Lightning


def _lightning_address(text: str, rules: Rules) -> str:
    from email_validator import EmailNotValidError, validate_email

    try:
        validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise Unfit("is no Lightning address, such as maria@example.com") from None
    return text


def _lnurl(text: str, rules: Rules) -> str:
    if _residue("lnurl", text[6:], _BECH32, 30) != 1:
        raise Unfit(_MISTYPED)
    return text


def _low(text: str) -> str:
    return text.lower()


def _as_is(text: str) -> str:
    return text


def _bolt12(text: str, rules: Rules) -> str:
    return text


COIN_KINDS: Final = {
    "monero": Kind(
        "a Monero address of 95 or 106 characters",
        *(95, 106),
        re.compile(r"[48][1-9A-HJ-NP-Za-km-z]{94}(?:[1-9A-HJ-NP-Za-km-z]{11})?", re.ASCII),
        _as_is,
        _monero,
    ),
    "liquid": Kind(
        "a Liquid address of 33 to 130 letters and digits",
        *(33, 130),
        re.compile(r"[0-9A-Za-z]+", re.ASCII),
        _as_is,
        _liquid,
    ),
    "lightning_address": Kind(
        "a Lightning address of at most 254 characters: name@host",
        *(6, 254),
        re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.ASCII),
        _low,
        _lightning_address,
    ),
    "lnurl": Kind(
        "an LNURL of at most 500 characters",
        *(20, 500),
        re.compile(r"lnurl1[02-9ac-hj-np-z]+", re.ASCII),
        _low,
        _lnurl,
    ),
    "bolt12": Kind(
        "a BOLT 12 offer of at most 1,000 characters",
        *(20, 1000),
        re.compile(r"lno1[02-9ac-hj-np-z]+", re.ASCII),
        _low,
        _bolt12,
    ),
}
