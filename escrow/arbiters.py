"""An arbiter's record: a standing consent to be drawn, published in the DHT.

    record = [fields, node_sig, key_sig, bond_sig]
    fields = [version, network, outpoint, transaction, height, position, branch, bond key,
              lock time, node id, point, chain code, fee_base, fee_ppm, at_height, at_hash]
    id     = SHA-256(tag "arbiter" || fields), without the signatures

`point` and `chain code` are the arbitration account's public half (BIP 32): the escrow key
of a trade is a child of it that the draw's seed selects, so it is recomputed by everyone
and read from no message. Version 1 shows a fidelity bond (`bond`); bond_sig is by its key.
Version 0 has none and weight 1: its outpoint is node id || ffffffff, the bond's fields are
empty or zero, bond_sig is empty. Only private networks admit it. `at_height`, `at_hash` say
how fresh a record is, in blocks. fee_base in satoshi, fee_ppm in millionths of the amount.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from escrow.bond import Bond
from escrow.contract import check_key
from escrow.keys import verify_schnorr
from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network

BONDLESS: Final = 0
BONDED: Final = 1
MAX_BYTES: Final = 1400  # so the longest transaction and the longest branch do not fit together
MAX_FEE_BASE: Final = 10_000
MAX_FEE_PPM: Final = 20_000
NO_VOUT: Final = b"\xff\xff\xff\xff"
_NO_BOND: Final = (b"", 0, 0, (), b"", 0)

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class ArbiterRecord:
    """An arbiter's record. Construction checks bounds and bond; `from_wire` signatures too.

    Whether the bond is in one's own chain and counts in a draw, `anchor` judges.
    """

    network: Network
    node_id: bytes
    point: bytes
    chain_code: bytes
    fee_base: int
    fee_ppm: int
    at_height: int
    at_hash: bytes
    bond: Bond | None = None
    node_sig: bytes = b""
    key_sig: bytes = b""
    bond_sig: bytes = b""

    def __post_init__(self) -> None:
        if self.bond is None and not self.network.bondless:
            raise InvalidRecord("version", f"is 0, and {self.network.name} asks for a bond")
        identity.check_node_id("node_id", self.node_id, self.network)
        check_key("point", self.point)
        wire.exact("chain_code", self.chain_code, 32)
        wire.within("fee_base", self.fee_base, 0, MAX_FEE_BASE)
        wire.within("fee_ppm", self.fee_ppm, 0, MAX_FEE_PPM)
        wire.within("at_height", self.at_height, 0, 499_999_999)
        wire.exact("at_hash", self.at_hash, 32)

    @property
    def version(self) -> int:
        """1 with a bond, 0 without."""
        return BONDLESS if self.bond is None else BONDED

    @property
    def outpoint(self) -> bytes:
        """The 36 bytes of the bond, or those that stand for none."""
        return self.node_id + NO_VOUT if self.bond is None else self.bond.outpoint

    def fee(self, amount_sat: int) -> int:
        """Return the fee of a verdict on a trade of `amount_sat`."""
        return self.fee_base + amount_sat * self.fee_ppm // 1_000_000

    def array(self) -> tuple[Any, ...]:
        """Return the fields that are hashed and signed."""
        bond = (self.outpoint, *_NO_BOND) if self.bond is None else self.bond.array()
        account = (self.node_id, self.point, self.chain_code, self.fee_base, self.fee_ppm)
        return (self.version, self.network.name, *bond, *account, self.at_height, self.at_hash)

    @cached_property
    def id(self) -> bytes:
        """The record's id: a malleated signature does not make another record."""
        return wire.digest(wire.tag(self.network.name, "arbiter"), self.array())

    def signed(self, key: Identity, sign_point: Sign, sign_bond: Sign | None = None) -> Self:
        """Return it signed by the node's key and, BIP 340, by arbitration key and bond key."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        signatures = {"node_sig": key.sign(self.id), "key_sig": sign_point(self.id)}
        if sign_bond is not None:
            signatures["bond_sig"] = sign_bond(self.id)
        return type(self)(**(values | signatures))

    def wire(self) -> bytes:
        """Return the bytes that are published."""
        return wire.pack((self.array(), self.node_sig, self.key_sig, self.bond_sig))

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and verify. Raises InvalidRecord naming the field."""
        record = wire.fields("record", wire.unpack("record", raw, limit=MAX_BYTES), 4)
        found = wire.fields("fields", record[0], 16)
        version = wire.within("version", found[0], BONDLESS, BONDED)
        if found[1] != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        names = ("node_id", "point", "chain_code", "fee_base", "fee_ppm", "at_height", "at_hash")
        made = cls(
            network=network,
            **dict(zip(names, found[9:], strict=True)),
            bond=Bond.from_array(found[2:9]) if version == BONDED else None,
            node_sig=wire.exact("node_sig", record[1], 64),
            key_sig=wire.exact("key_sig", record[2], 64),
            bond_sig=wire.exact("bond_sig", record[3], 64 if version == BONDED else 0),
        )
        if made.array() != found:
            raise InvalidRecord("outpoint", "or another bond field does not fit a bondless record")
        identity.verify("node_sig", made.node_id, made.id, made.node_sig)
        verify_schnorr(made.point, made.id, made.key_sig, "key_sig")
        if made.bond is not None:
            verify_schnorr(made.bond.key, made.id, made.bond_sig, "bond_sig")
        return made
