"""The contract: what both traders sign before any coin is locked (docs/trade.md, section 6).

One canonical array. Everything that moves money later (escrow script, address, value,
every payout) is a function of it and of the funding outpoint. Seed, arbiter's key, fees
and bonds in it are recomputed from the draw's transcript, never read from a message. In
the kind with a backup branch each of the three has a second key, which spends once the
escrow is `n` blocks old; a buyer without a deposit has dep_b 0.
Amounts in satoshi, times in seconds, heights in blocks, rates in sat/vB.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Self

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.units import COIN, MAX_FIAT_MINOR, MAX_SAT

VERSION: Final = 1
KIND_2OF3: Final = "wsh-2of3"
KIND_BACKUP: Final = "wsh-2of3-backup"
KINDS_ALLOWED: Final = (KIND_2OF3, KIND_BACKUP)
MAX_BYTES: Final = 2048
FUND_WITHIN: Final = 150  # blocks after the anchor
REPLY_S: Final = 96 * 3600
VERDICT_S: Final = 5 * 86_400
ACCOUNT_S: Final = 24 * 3600  # the seller's payment details are due, after funding's block
ACK_S: Final = 48 * 3600  # the buyer's ACK is due; the period to pay ends period_s later
MAX_PERIOD_S: Final = 60 * 86_400
DAY_BLOCKS: Final = 144
BACKUP_AFTER_DAYS: Final = 30  # the backup branch opens this long after the period to pay
MAX_RATE: Final = 500  # sat/vB, whoever names it and whatever for
MAIN_KEYS: Final = ("key_b", "key_s", "key_a")
BACKUP_KEYS: Final = ("key_b2", "key_s2", "key_a2")
MAX_ARBITER_FEE: Final = 10_000 + MAX_SAT // 50


def depth_for(amount_sat: int) -> int:
    """Return the confirmations that an amount asks for."""
    return 1 if amount_sat < COIN // 100 else 3 if amount_sat < COIN // 10 else 6


def backup_blocks(period_s: int) -> int:
    """Return n, the age in blocks at which a backup branch opens (BIP 68, BIP 112)."""
    days = wire.within("period_days", -(-period_s // 86_400), 1, MAX_PERIOD_S // 86_400)
    return DAY_BLOCKS * (days + BACKUP_AFTER_DAYS)


def check_deposit(field: str, value: object, amount_sat: int) -> int:
    """Return a deposit within its bounds: a tenth (10,000 sat at least) to a half."""
    low = max(-(-amount_sat // 10), 10_000)
    return wire.within(field, value, low, amount_sat // 2)


def max_rate(escrow_sat: int) -> int:
    """Return the highest funding and payout rate that an escrow of this value allows."""
    return max(1, min(MAX_RATE, escrow_sat // 4000))


def check_script(field: str, value: object) -> bytes:
    """Return a native SegWit v0/v1 output script: P2WPKH, P2WSH or P2TR."""
    script = wire.blob(field, value, 34, low=22)
    if script[:2] not in {b"\x00\x14", b"\x00\x20", b"\x51\x20"} or len(script) != 2 + script[1]:
        raise InvalidRecord(field, "is not a native SegWit script of 22 or 34 bytes")
    return script


def check_key(field: str, value: object) -> bytes:
    """Return a compressed public key's 33 bytes; the curve check is the signer's."""
    key = wire.exact(field, value, 33)
    if key[0] not in (2, 3):
        raise InvalidRecord(field, "is not a compressed public key")
    return key


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The array of section 6, named. Construction checks every bound; InvalidRecord names one."""

    network: Network
    trade_id: bytes
    offer_hash: bytes
    reveal_id: bytes
    seed: bytes
    maker: bytes
    taker: bytes
    maker_is_seller: int
    amount_sat: int
    currency: str
    fiat_minor: int
    method: str
    dep_b: int
    dep_s: int
    escrow_kind: str
    key_b: bytes
    key_s: bytes
    key_a: bytes
    key_b2: bytes
    key_s2: bytes
    key_a2: bytes
    n: int
    arbiter: bytes
    runner_up: bytes
    bond_a: bytes
    bond_a2: bytes
    fee_a: int
    fee_a2: int
    script_b: bytes
    script_s: bytes
    rate: int
    anchor_h: int
    fund_by: int
    depth: int
    period_s: int
    reply_s: int
    verdict_s: int
    account_hash_b: bytes
    account_hash_s: bytes

    def __post_init__(self) -> None:
        for name in ("trade_id", "offer_hash", "reveal_id", "seed"):
            wire.exact(name, getattr(self, name), 32)
        for name in ("account_hash_b", "account_hash_s"):
            wire.exact(name, getattr(self, name), 32)
        self._check_people()
        wire.within("maker_is_seller", self.maker_is_seller, 0, 1)
        wire.within("amount_sat", self.amount_sat, self.network.min_amount_sat, MAX_SAT // 4)
        currency = wire.text("currency", self.currency, 3, low=3)
        if not (currency.isascii() and currency.isalpha() and currency.isupper()):
            raise InvalidRecord("currency", "is not three capital letters (ISO 4217)")
        wire.within("fiat_minor", self.fiat_minor, 1, MAX_FIAT_MINOR)
        wire.text("method", self.method, 32, low=1)
        if self.dep_b != 0 or type(self.dep_b) is not int:
            check_deposit("dep_b", self.dep_b, self.amount_sat)
        check_deposit("dep_s", self.dep_s, self.amount_sat)
        for name in ("bond_a", "bond_a2"):
            wire.exact(name, getattr(self, name), 36)
        if self.bond_a == self.bond_a2:
            raise InvalidRecord("bond_a2", "is the arbiter's own")
        for name in ("fee_a", "fee_a2"):
            wire.within(name, getattr(self, name), 0, min(MAX_ARBITER_FEE, self.escrow_sat // 4))
        for name in ("script_b", "script_s"):
            check_script(name, getattr(self, name))
        if self.script_b == self.script_s:
            raise InvalidRecord("script_s", "is the buyer's script")
        wire.within("rate", self.rate, 1, max_rate(self.escrow_sat))
        wire.within("anchor_h", self.anchor_h, 1, 499_999_999)
        for name, value in (
            ("fund_by", self.anchor_h + FUND_WITHIN),
            ("depth", depth_for(self.amount_sat)),
            ("reply_s", REPLY_S),
            ("verdict_s", VERDICT_S),
        ):
            wire.within(name, getattr(self, name), value, value)
        wire.within("period_s", self.period_s, 3600, MAX_PERIOD_S)
        self._check_keys()

    def _check_people(self) -> None:
        """Check that maker, taker, arbiter and runner-up are four."""
        seen: dict[bytes, str] = {}
        for name in ("maker", "taker", "arbiter", "runner_up"):
            node_id = wire.exact(name, getattr(self, name), 32)
            if node_id in seen:
                raise InvalidRecord(name, f"is the {seen[node_id].replace('_', '-')} himself")
            seen[node_id] = name

    def _check_keys(self) -> None:
        """Check the kind, its keys and n. With a key twice, one signature spends the coins."""
        if self.escrow_kind not in KINDS_ALLOWED:
            raise InvalidRecord("escrow_kind", f"is none of {', '.join(KINDS_ALLOWED)}")
        backup = self.escrow_kind == KIND_BACKUP
        n = backup_blocks(self.period_s) if backup else 0
        wire.within("n", self.n, n, n)
        for name in BACKUP_KEYS:
            if not backup:
                wire.exact(name, getattr(self, name), 0)
        names = MAIN_KEYS + BACKUP_KEYS if backup else MAIN_KEYS
        seen = set()
        for name in names:
            x_only = check_key(name, getattr(self, name))[1:]
            if x_only in seen:
                raise InvalidRecord(name, "is a key twice: keys are not pairwise distinct")
            seen.add(x_only)

    # -- what follows from it

    @property
    def escrow_sat(self) -> int:
        """Value of the escrow output."""
        return self.amount_sat + self.dep_b + self.dep_s

    @property
    def seller(self) -> bytes:
        """Node id of the one who gives bitcoin."""
        return self.maker if self.maker_is_seller else self.taker

    @property
    def buyer(self) -> bytes:
        """Node id of the one who gets bitcoin."""
        return self.taker if self.maker_is_seller else self.maker

    def period_end(self, funding_mtp: int) -> int:
        """Return when paying ends, in median time past, from that of funding's block."""
        return funding_mtp + ACK_S + self.period_s

    def array(self) -> tuple[Any, ...]:
        """Return the canonical array."""
        rest = (getattr(self, f.name) for f in fields(self) if f.name != "network")
        return (VERSION, self.network.name, *rest)

    @classmethod
    def line_names(cls) -> tuple[str, ...]:
        """Return the name of each item of the array."""
        return ("version", "network", *(f.name for f in fields(cls) if f.name != "network"))

    def wire(self) -> bytes:
        """Return the canonical bytes."""
        return wire.pack(self.array())

    @cached_property
    def hash(self) -> bytes:
        """SHA-256(tag "contract" || array): what both escrow keys sign (BIP 340)."""
        return wire.digest(wire.tag(self.network.name, "contract"), self.array())

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and bound a contract of this network. Raises InvalidRecord."""
        value = wire.unpack("contract", raw, limit=MAX_BYTES)
        names = [f.name for f in fields(cls) if f.name != "network"]
        version, name, *rest = wire.fields("contract", value, len(names) + 2)
        wire.within("version", version, VERSION, VERSION)
        if name != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        return cls(network=network, **dict(zip(names, rest, strict=True)))
