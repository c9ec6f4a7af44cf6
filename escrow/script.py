"""Escrow scripts: from a contract to the output that holds the coins.

One table of kinds; everything else asks it. `wsh-2of3` is P2WSH of a 2-of-3 multisig of
buyer's, seller's and arbiter's keys in ascending order (BIP 67, BIP 141). Pure: a
function of the contract (docs/wire.md, "Transactions").
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from Crypto.Hash import RIPEMD160

from escrow.contract import KIND_2OF3, Contract
from escrow.keys import check_point
from p2pnode.base import address
from p2pnode.base.errors import InvalidRecord

_OP_2: Final = 0x52
_OP_3: Final = 0x53
_PUSH_KEY: Final = b"\x21"
_CHECKMULTISIG: Final = 0xAE


@dataclass(frozen=True, slots=True)
class Kind:
    """What an escrow kind answers; weights in weight units."""

    input_weight: int  # of a payout's one input, signed, at its heaviest
    witness_script: Callable[[Contract], bytes]
    descriptor: Callable[[Contract, Mapping[bytes, str]], str]
    stack: Callable[[Contract, Mapping[bytes, bytes]], tuple[bytes, ...]]


def escrow_keys(contract: Contract) -> tuple[bytes, bytes, bytes]:
    """Return the three keys in script order. Raises InvalidRecord for one off the curve."""
    named = (("key_b", contract.key_b), ("key_s", contract.key_s), ("key_a", contract.key_a))
    first, second, third = sorted(check_point(name, key) for name, key in named)
    return first, second, third


def _multisig(contract: Contract) -> bytes:
    pushes = b"".join(_PUSH_KEY + key for key in escrow_keys(contract))
    return bytes([_OP_2]) + pushes + bytes([_OP_3, _CHECKMULTISIG])


def _sortedmulti(contract: Contract, secrets: Mapping[bytes, str]) -> str:
    keys = (secrets.get(key, key.hex()) for key in escrow_keys(contract))
    return f"wsh(sortedmulti(2,{','.join(keys)}))"


def _stack(contract: Contract, signatures: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    present = [signatures[key] for key in escrow_keys(contract) if key in signatures]
    if len(present) != 2 or len(signatures) != 2:
        raise InvalidRecord("signatures", "are not two, by two keys of the contract")
    return (b"", *present, _multisig(contract))


KINDS: Final = {KIND_2OF3: Kind(418, _multisig, _sortedmulti, _stack)}


def kind(contract: Contract) -> Kind:
    """Return the functions of the contract's escrow kind."""
    return KINDS[contract.escrow_kind]


def witness_script(contract: Contract) -> bytes:
    """Return the script that the escrow output commits to."""
    return kind(contract).witness_script(contract)


def escrow_script(contract: Contract) -> bytes:
    """Return the escrow's output script (P2WSH, 34 bytes)."""
    return b"\x00\x20" + hashlib.sha256(witness_script(contract)).digest()


def escrow_address(contract: Contract) -> str:
    """Return the escrow's address on the contract's network (BIP 173)."""
    return address.encode(contract.network.hrp, escrow_script(contract))


def descriptor(contract: Contract, secrets: Mapping[bytes, str] | None = None) -> str:
    """Return the output descriptor (BIP 383); `secrets` puts WIFs in place of their keys."""
    return kind(contract).descriptor(contract, secrets or {})


def witness_stack(contract: Contract, signatures: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the witness of a payout's input from two signatures by public key."""
    return kind(contract).stack(contract, signatures)


def hash160(data: bytes) -> bytes:
    """Return RIPEMD-160 of SHA-256."""
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


def p2wpkh(public: bytes) -> bytes:
    """Return the P2WPKH output script of a compressed key (BIP 141)."""
    return b"\x00\x14" + hash160(public)
