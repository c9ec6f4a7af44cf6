"""A payout at both rates, from contract to two broadcastable transactions, and its bare floor.

Ours is what the node calls: the first signer's `first_sign`, the completer's `complete`, each on
a bench of his own, every time for another contract. Warm is a node that funded the trade since it
was started, and so has asked for the escrow's address; cold is one that was started again since.
The floor is the same signatures, made and verified as often as inside ours, by libsecp256k1 alone:

    made       each of the four by trying nonces until R is low, as bdk does; the result is equal
    verified   by our checks (counted), and by OP_CHECKMULTISIG inside Bitcoin Core's library
               (worked out from the order of the keys)
"""

import gc
import hashlib
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import escrow_tx_kit as kit
from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib

from escrow import backend_second, backend_signatures, keys
from escrow.backend_bench import TradeBench
from escrow.backend_keys import TradeKey
from escrow.contract import BACKUP_KEYS, KIND_BACKUP
from escrow.payout import build_payout, payout_rates, release
from escrow.script import escrow_keys, witness_script
from escrow.sighash import sighash
from p2pnode.base.transaction import Outpoint

ROUNDS = 60


@dataclass(frozen=True)
class Counted:
    """The operations of libsecp256k1 inside one payout."""

    made: int  # signatures, the tries for a low R not counted
    checked: float  # verifications, on the average


@dataclass
class Deal:
    """One contract with its secrets, and what signing it needs."""

    number: int

    def __post_init__(self):
        secrets = {
            name: hashlib.sha256(f"{name} {self.number}".encode()).digest()
            for name in ("key_b", "key_s", "key_a", *BACKUP_KEYS)
        }
        self.secrets = {n: PrivateKey(s) for n, s in secrets.items()}
        public = {n: key.public_key.format() for n, key in self.secrets.items()}
        made = kit.contract(escrow_kind=KIND_BACKUP)
        self.contract = replace(made, trade_id=kit.h(f"trade {self.number}"), **public)
        self.outpoint = Outpoint(kit.h(f"funding {self.number}"), 0)
        self.seller = TradeBench(TradeKey(secrets["key_s"], kit.NET))
        self.buyer = TradeBench(TradeKey(secrets["key_b"], kit.NET))

    def pay(self, between=lambda: None):
        """Sign first, as the seller; complete, as the buyer. Returns both payouts, raw."""
        contract, split = self.contract, release(self.contract)
        pair = self.seller.first_sign(contract, self.outpoint, split)
        between()
        return self.buyer.complete(contract, self.outpoint, split, contract.key_s, pair)

    def digests(self):
        """Return what is signed, at either rate."""
        split, script = release(self.contract), witness_script(self.contract)
        payouts = [
            build_payout(self.contract, self.outpoint, split, rate)
            for rate in payout_rates(self.contract)
        ]
        return [sighash(p.tx, 0, [p.prevout], script) for p in payouts]


def low_r(key, digest):
    """Sign as Bitcoin Core and rust-secp256k1 do: another nonce until R is below 2^255."""
    signature, out = ffi.new("secp256k1_ecdsa_signature *"), ffi.new("unsigned char [64]")
    context, extra, count = key.context.ctx, ffi.NULL, 0
    while True:
        assert lib.secp256k1_ecdsa_sign(
            context, signature, digest, key.secret, lib.secp256k1_nonce_function_rfc6979, extra
        )
        lib.secp256k1_ecdsa_signature_serialize_compact(context, out, signature)
        if out[0] < 0x80:
            break
        count += 1
        extra = ffi.new("unsigned char [32]", count.to_bytes(32, "little"))
    size, der = ffi.new("size_t *", 72), ffi.new("unsigned char [72]")
    lib.secp256k1_ecdsa_signature_serialize_der(context, der, size, signature)
    return bytes(ffi.buffer(der, size[0]))


def by_checkmultisig(contract):
    """Return which (signer, key) pairs OP_CHECKMULTISIG tries, first keys last."""
    order = list(escrow_keys(contract))
    signers = [key for key in order if key in (contract.key_b, contract.key_s)]
    tried, left = [], list(signers)
    for key in reversed(order):
        if left:
            tried.append((left[-1], key))
            if left[-1] == key:
                left.pop()
    return tried


def count_checks(deal):
    """Return how many signatures our own code verifies in one payout."""
    count, real = [], keys.PublicKey.verify

    def counting(self, *args, **kwargs):
        count.append(1)
        return real(self, *args, **kwargs)

    with patch.object(keys.PublicKey, "verify", counting):
        deal.pay()
    return len(count)


def bare(deal, digests, checks):
    """Do the same by libsecp256k1 alone; returns how often it verified."""
    contract, verified = deal.contract, 0
    signers = (deal.secrets["key_s"], deal.secrets["key_b"])
    publics = (contract.key_s, contract.key_b)
    tried = by_checkmultisig(contract)
    for digest in digests:
        made = {p: low_r(k, digest) for k, p in zip(signers, publics, strict=True)}
        for n in range(checks // 2):  # each of ours is of one of the two
            public = publics[n % 2]
            assert PublicKey(public).verify(made[public], digest, hasher=None)
        for signer, key in tried:
            assert PublicKey(key).verify(made[signer], digest, hasher=None) == (signer == key)
        verified += checks // 2 + len(tried)
    return verified


def same_signatures(deal, digests):
    """Tell whether the payouts hold the very signatures that `low_r` makes."""
    return all(
        low_r(deal.secrets[name], digest) in raw
        for raw, digest in zip(deal.pay(), digests, strict=True)
        for name in ("key_s", "key_b")
    )


def forget():
    """Remember no contract, as a process that has just begun."""
    for known in (witness_script, escrow_keys, backend_signatures._told):
        known.cache_clear()


def timed(job):
    """Return how long `job` took, in microseconds, and what it gave."""
    start = time.process_time()
    given = job()
    return 1e6 * (time.process_time() - start), given


@dataclass(frozen=True)
class Found:
    """Medians in microseconds, and what is inside."""

    warm: float
    cold: float
    floor: float
    inside: Counted


def measured(rounds=ROUNDS):
    """Measure warm, cold and floor in turn."""
    backend_second.warm()
    first = Deal(0)
    assert same_signatures(first, first.digests())
    checks, warm, cold, floor, verified = count_checks(first), [], [], [], 0
    gc.collect()
    for n in range(rounds):
        deal = Deal(n + 1)
        digests = deal.digests()
        forget()
        cold.append(timed(partial(deal.pay, forget))[0])
        forget()
        backend_signatures.ask_address(deal.contract, backend_signatures.REAL)  # at the funding
        warm.append(timed(deal.pay)[0])
        spent, count = timed(partial(bare, deal, digests, checks))
        floor.append(spent)
        verified += count
    inside = Counted(2 * 2, verified / rounds)
    return Found(*map(statistics.median, (warm, cold, floor)), inside)
