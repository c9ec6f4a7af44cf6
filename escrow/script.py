"""Escrow scripts: from a contract to the output that holds the coins.

One table of kinds; everything else asks it. `wsh-2of3` is P2WSH of a 2-of-3 multisig of
buyer's, seller's and arbiter's keys in ascending order (BIP 67, BIP 141).
`wsh-2of3-backup` adds a second branch, open once the output is `n` blocks old (BIP 68,
BIP 112): 2 of 3 by other keys of the buyer, of the seller and of the runner-up. Pure: a
function of the contract (docs/wire/transactions.md).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from Crypto.Hash import RIPEMD160

from escrow.contract import BACKUP_KEYS, KIND_2OF3, KIND_BACKUP, MAIN_KEYS, Contract
from escrow.keys import check_point
from p2pnode.base import address
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import SEQUENCE_RBF

REMEMBERED: Final = 64  # contracts whose keys and script are not worked out again

_OP_2: Final = b"\x52"
_OP_3: Final = b"\x53"
_PUSH_KEY: Final = b"\x21"
_IFDUP_NOTIF: Final = b"\x73\x64"
_ENDIF: Final = b"\x68"
_CHECKMULTISIG: Final = b"\xae"
_CHECKMULTISIGVERIFY: Final = b"\xaf"
_CHECKSEQUENCEVERIFY: Final = b"\xb2"


class Branch(IntEnum):
    """Which way of spending the escrow: the three keys, or the three others after n blocks."""

    MAIN = 0
    BACKUP = 1


Keys = tuple[bytes, bytes, bytes]
Descriptor = Callable[[Contract, Mapping[bytes, str]], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an escrow kind answers; weights in weight units."""

    input_weights: tuple[int, ...]  # of a payout's one input by branch, signed, at its heaviest
    witness_script: Callable[[Contract], bytes]
    descriptor: Descriptor
    below: tuple[tuple[bytes, ...], ...]  # by branch: items between signatures and script


def kind(contract: Contract) -> Kind:
    """Return the functions of the contract's escrow kind."""
    return KINDS[contract.escrow_kind]


def _of(contract: Contract, branch: Branch) -> Branch:
    """Return `branch` if the contract's kind has it. Raises InvalidRecord."""
    if not 0 <= branch < len(kind(contract).input_weights):
        raise InvalidRecord("branch", f"is none of the escrow kind {contract.escrow_kind}")
    return Branch(branch)


@lru_cache(maxsize=REMEMBERED)
def escrow_keys(contract: Contract, branch: Branch = Branch.MAIN) -> Keys:
    """Return a branch's three keys in script order. Raises InvalidRecord for one off the curve."""
    names = MAIN_KEYS if _of(contract, branch) is Branch.MAIN else BACKUP_KEYS
    first, second, third = sorted(check_point(n, getattr(contract, n)) for n in names)
    return first, second, third


def _multi(keys: Keys, opcode: bytes) -> bytes:
    return _OP_2 + b"".join(_PUSH_KEY + key for key in keys) + _OP_3 + opcode


def _number(n: int) -> bytes:
    """Return the push of a positive script number above 16, at its shortest."""
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little")  # the top bit is the sign
    return bytes([len(raw)]) + raw


def _plain(contract: Contract) -> bytes:
    return _multi(escrow_keys(contract), _CHECKMULTISIG)


def _with_backup(contract: Contract) -> bytes:
    after = _multi(escrow_keys(contract, Branch.BACKUP), _CHECKMULTISIGVERIFY)
    after += _number(contract.n) + _CHECKSEQUENCEVERIFY
    return _plain(contract) + _IFDUP_NOTIF + after + _ENDIF


def _names(keys: Keys, secrets: Mapping[bytes, str]) -> str:
    return ",".join(secrets.get(key, key.hex()) for key in keys)


def _plain_text(contract: Contract, secrets: Mapping[bytes, str]) -> str:
    return f"wsh(sortedmulti(2,{_names(escrow_keys(contract), secrets)}))"


def _backup_text(contract: Contract, secrets: Mapping[bytes, str]) -> str:
    now = _names(escrow_keys(contract), secrets)
    after = _names(escrow_keys(contract, Branch.BACKUP), secrets)
    return f"wsh(or_d(multi(2,{now}),and_v(v:multi(2,{after}),older({contract.n}))))"


KINDS: Final = {
    KIND_2OF3: Kind((418,), _plain, _plain_text, ((),)),
    # or_d of miniscript: three empty items fail the first multisig, so that the second is run
    KIND_BACKUP: Kind((530, 533), _with_backup, _backup_text, ((), (b"", b"", b""))),
}


def input_weight(contract: Contract, branch: Branch = Branch.MAIN) -> int:
    """Return the weight of a payout's input, signed, at its heaviest."""
    return kind(contract).input_weights[_of(contract, branch)]


def sequence(contract: Contract, branch: Branch = Branch.MAIN) -> int:
    """Return the sequence of a payout's input: in BACKUP the age that the script asks for."""
    return SEQUENCE_RBF if _of(contract, branch) is Branch.MAIN else contract.n


def arbiter_terms(contract: Contract, branch: Branch = Branch.MAIN) -> tuple[bytes, int]:
    """Return the key and the fee of the arbiter of a branch: A's, or the runner-up's."""
    if _of(contract, branch) is Branch.MAIN:
        return contract.key_a, contract.fee_a
    return contract.key_a2, contract.fee_a2


@lru_cache(maxsize=REMEMBERED)
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
    """Return the output descriptor (BIP 379, 383); `secrets` puts WIFs in place of their keys."""
    return kind(contract).descriptor(contract, secrets or {})


def witness_stack(
    contract: Contract, signatures: Mapping[bytes, bytes], branch: Branch = Branch.MAIN
) -> tuple[bytes, ...]:
    """Return the witness of a payout's input from two signatures by public key."""
    keys = escrow_keys(contract, branch)
    present = [signatures[key] for key in keys if key in signatures]
    if len(present) != 2 or len(signatures) != 2:
        raise InvalidRecord("signatures", "are not two, by two keys of the contract")
    return (b"", *present, *kind(contract).below[branch], witness_script(contract))


def hash160(data: bytes) -> bytes:
    """Return RIPEMD-160 of SHA-256."""
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


def p2wpkh(public: bytes) -> bytes:
    """Return the P2WPKH output script of a compressed key (BIP 141)."""
    return b"\x00\x14" + hash160(public)
