"""Segregated witness addresses: bech32 (BIP 173) for version 0, bech32m (BIP 350) above.

Nothing else is an address here: no node pays to or from legacy scripts. The one declared
error is InvalidRecord, naming the field and never echoing more than a few characters.
"""

from collections.abc import Iterable
from typing import Final

from p2pnode.base.errors import InvalidRecord

MAX_LENGTH: Final = 90  # BIP 173
_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32: Final = 1
_BECH32M: Final = 0x2BC830A3
_CHECKSUM: Final = 6
_KNOWN_HRPS: Final = ("bc", "tb", "bcrt")


def encode(hrp: str, script: bytes) -> str:
    """Return the address of a witness output script. Raises InvalidRecord for any other."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        raise InvalidRecord("script", "is not a witness program")
    opcode = script[0]
    if opcode and not 0x51 <= opcode <= 0x60:
        raise InvalidRecord("script", "is not a witness program")
    version, program = opcode and opcode - 0x50, script[2:]
    _check_program("script", version, program)
    data = [version, *_regroup(program, 8, 5, pad=True)]
    constant = _BECH32M if version else _BECH32
    checksum = _polymod([*_expand(hrp), *data, *[0] * _CHECKSUM]) ^ constant
    data += [checksum >> 5 * (_CHECKSUM - 1 - i) & 31 for i in range(_CHECKSUM)]
    return hrp + "1" + "".join(_ALPHABET[d] for d in data)


def decode(field: str, text: object, hrp: str) -> bytes:
    """Return the output script that an address of the network `hrp` names.

    Raises InvalidRecord naming `field`: malformed, mistyped, or of another network.
    """
    if type(text) is not str or not 8 <= len(text) <= MAX_LENGTH or not text.isascii():
        raise InvalidRecord(field, f"is not an address of 8 to {MAX_LENGTH} letters and digits")
    if text not in (text.lower(), text.upper()):
        raise InvalidRecord(field, "mixes upper and lower case")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or len(rest) < _CHECKSUM + 1 or any(c not in _ALPHABET for c in rest):
        raise InvalidRecord(field, f"is not an address that begins with {hrp}1")
    if prefix != hrp:
        other = " (another network's)" if prefix in _KNOWN_HRPS else ""
        raise InvalidRecord(field, f"does not begin with {hrp}1{other}")
    values = [_ALPHABET.index(c) for c in rest]
    version = values[0]
    constant = _BECH32M if version else _BECH32
    if _polymod([*_expand(hrp), *values]) != constant:
        raise InvalidRecord(field, "is mistyped: its checksum does not match")
    if version > 16:
        raise InvalidRecord(field, "has a witness version beyond 16")
    program = _bytes_of(field, values[1:-_CHECKSUM])
    _check_program(field, version, program)
    return bytes([version and version + 0x50, len(program)]) + program


def _check_program(field: str, version: int, program: bytes) -> None:
    if not 2 <= len(program) <= 40:
        raise InvalidRecord(field, "has a witness program that is not 2 to 40 bytes")
    if version == 0 and len(program) not in (20, 32):
        raise InvalidRecord(field, "is version 0 with a program that is not 20 or 32 bytes")


def _bytes_of(field: str, groups: list[int]) -> bytes:
    spare = 5 * len(groups) % 8
    if spare >= 5 or (groups and groups[-1] & ((1 << spare) - 1)):
        raise InvalidRecord(field, "has padding that is not zero or too long")
    return bytes(_regroup(groups, 5, 8, pad=False))


def _regroup(values: Iterable[int], have: int, want: int, *, pad: bool) -> list[int]:
    """Cut a stream of `have`-bit numbers into `want`-bit ones."""
    held = bits = 0
    out = []
    for value in values:
        held, bits = held << have | value, bits + have
        while bits >= want:
            bits -= want
            out.append(held >> bits & ((1 << want) - 1))
        held &= (1 << bits) - 1
    if pad and bits:
        out.append(held << (want - bits))
    return out


def _expand(hrp: str) -> list[int]:
    return [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= term
    return check
