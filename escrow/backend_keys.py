"""Secrets of the trade, derived from the wallet's words (BIP 32, hardened paths).

    m/8383h/coin_h/0h/<nine chunks of SHA-256(trade id), hardened>   a trader's root of a trade
    m/8383h/coin_h/0h/<the same nine>/<eight words of the trade id, not hardened>   his escrow key
    m/8383h/coin_h/1h/<the same nine chunks>                        his key of the backup branch
    m/8383h/coin_h/2h                                               the arbitration account
    m/8383h/coin_h/2h/<four words of the draw, not hardened>        the arbiter's key of a trade
    m/8383h/coin_h/3h/<number>h                                     the key of a fidelity bond

A path from the trade id cannot repeat after an old backup, as a counter would. The plain
steps let him prove later that the key on the chain was made for that trade (`escrow.receipt`).
Derivation is bdk's; nothing here prints a secret.
"""

from collections.abc import Sequence
from typing import Final

import bdkpython as bdk
from coincurve import PrivateKey

from escrow.keys import (
    ARBITRATION_ACCOUNT,
    BACKUP_ACCOUNT,
    ESCROW_ACCOUNT,
    SIGHASH_ALL,
    arbiter_path,
    base58check,
    bound_path,
    check_point,
    from_base58check,
    path_text,
    trade_path,
)
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault
from p2pnode.base.networks import Network

_BONDS: Final = 3  # beside the accounts of keys.py
_XPUB_BYTES: Final = 78  # BIP 32: version, depth, parent, index, chain code, key


class TradeKey:
    """One secret key. Its repr shows the public half alone; it cannot be pickled."""

    __slots__ = ("_key", "_main", "public")

    def __init__(self, secret: bytes, network: Network) -> None:
        self._key = PrivateKey(secret)
        self._main = network.bitcoin == "main"
        self.public: bytes = self._key.public_key.format()

    def __repr__(self) -> str:
        return f"TradeKey({self.public.hex()})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a TradeKey is not to be pickled")

    def sign_schnorr(self, message: bytes) -> bytes:
        """Return the BIP 340 signature of 32 bytes; the same one every time (aux is zero)."""
        digest = wire.exact("message", message, 32)
        return bytes(self._key.sign_schnorr(digest, aux_randomness=bytes(32)))

    def sign_ecdsa(self, digest: bytes) -> bytes:
        """Return a sighash's signature: DER, low S, ALL; the same one every time (RFC 6979)."""
        der = self._key.sign(wire.exact("digest", digest, 32), hasher=None)
        return bytes(der) + bytes([SIGHASH_ALL])

    def wif(self) -> str:
        """Return the secret in wallet import format, for the signing library alone."""
        prefix = b"\x80" if self._main else b"\xef"
        return base58check(prefix + self._key.secret + b"\x01")


def sign_schnorr(key: TradeKey, message: bytes) -> bytes:
    """Return `key`'s deterministic BIP 340 signature of 32 bytes."""
    return key.sign_schnorr(message)


class TradeKeys:
    """Every trade key below one wallet's words. Its repr shows the network alone."""

    def __init__(self, mnemonic: str, network: Network) -> None:
        main = network.bitcoin == "main"
        kind = bdk.NetworkKind.MAIN if main else bdk.NetworkKind.TEST
        try:
            words = bdk.Mnemonic.from_string(mnemonic)
        except bdk.Bip39Error:
            raise LocalFault("the wallet's words are not a BIP 39 phrase") from None
        self._root = bdk.DescriptorSecretKey(kind, words, None)
        self._network = network

    def __repr__(self) -> str:
        return f"TradeKeys({self._network.name})"

    def _derive(
        self, hardened: Sequence[int], plain: Sequence[int] = ()
    ) -> bdk.DescriptorSecretKey:
        return self._root.derive(bdk.DerivationPath(path_text(self._network, hardened, plain)))

    def _key(self, hardened: Sequence[int], plain: Sequence[int] = ()) -> TradeKey:
        return TradeKey(bytes(self._derive(hardened, plain).secret_bytes()), self._network)

    def escrow_key(self, trade_id: bytes) -> TradeKey:
        """Return the trader's key of one trade."""
        plain = bound_path(trade_id, self._network)
        return self._key([ESCROW_ACCOUNT, *trade_path(trade_id)], plain)

    def escrow_root(self, trade_id: bytes) -> tuple[bytes, bytes]:
        """Return what a receipt shows of a trade: point (33) and chain code (32) of its root."""
        return self._public_half([ESCROW_ACCOUNT, *trade_path(trade_id)])

    def backup_key(self, trade_id: bytes) -> TradeKey:
        """Return the trader's key of one trade's backup branch."""
        return self._key([BACKUP_ACCOUNT, *trade_path(trade_id)])

    def arbitration_key(self) -> TradeKey:
        """Return the key that signs one's arbiter record (key_sig)."""
        return self._key([ARBITRATION_ACCOUNT])

    def arbitration_account(self) -> tuple[bytes, bytes]:
        """Return the public half that the record publishes: point (33) and chain code (32)."""
        return self._public_half([ARBITRATION_ACCOUNT])

    def _public_half(self, hardened: Sequence[int]) -> tuple[bytes, bytes]:
        text = str(self._derive(hardened).as_public())
        xpub = text.partition("]")[2].partition("/")[0]
        data = from_base58check("xpub", xpub, _XPUB_BYTES)
        return check_point("xpub", data[45:]), data[13:45]

    def bond_key(self, number: int) -> TradeKey:
        """Return the key of one's fidelity bond of that number, from 0 on."""
        return self._key([_BONDS, number])

    def arbiter_key(self, seed: bytes, outpoint: bytes) -> TradeKey:
        """Return the drawn arbiter's key of one trade; it never leaves this process."""
        return self._key([ARBITRATION_ACCOUNT], arbiter_path(seed, outpoint, self._network))
