"""An arbiter's record: a standing consent to be drawn, published in the DHT.

    record = [fields, node_sig, key_sig]
    fields = [version, network, outpoint, transaction, height, position, branch, bond key,
              lock time, node id, point, chain code, fee_base, fee_ppm, at_height, at_hash]
    id     = SHA-256(tag "arbiter" || fields), without the signatures

`point` and `chain code` are the arbitration account's public half (BIP 32): the escrow key
of a trade is a child of it that the draw's seed selects, so it is recomputed by everyone
and read from no message. Version 0 is a record without a fidelity bond, of weight 1: its
outpoint is node id || ffffffff, the bond's fields are empty or zero. Only private networks
admit it. `at_height`, `at_hash` say how fresh it is, in blocks. fee_base in satoshi,
fee_ppm in millionths of the amount.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from escrow.contract import check_key
from escrow.keys import verify_schnorr
from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network

BONDLESS: Final = 0
MAX_BYTES: Final = 2048
MAX_FEE_BASE: Final = 10_000
MAX_FEE_PPM: Final = 20_000
NO_VOUT: Final = b"\xff\xff\xff\xff"


@dataclass(frozen=True, kw_only=True)
class ArbiterRecord:
    """A verified record of version 0. Construction checks bounds; `from_wire` signatures too."""

    network: Network
    node_id: bytes
    point: bytes
    chain_code: bytes
    fee_base: int
    fee_ppm: int
    at_height: int
    at_hash: bytes
    node_sig: bytes = b""
    key_sig: bytes = b""

    def __post_init__(self) -> None:
        if not self.network.bondless:
            raise InvalidRecord("version", f"is 0, and {self.network.name} asks for a bond")
        identity.check_node_id("node_id", self.node_id, self.network)
        check_key("point", self.point)
        wire.exact("chain_code", self.chain_code, 32)
        wire.within("fee_base", self.fee_base, 0, MAX_FEE_BASE)
        wire.within("fee_ppm", self.fee_ppm, 0, MAX_FEE_PPM)
        wire.within("at_height", self.at_height, 0, 499_999_999)
        wire.exact("at_hash", self.at_hash, 32)

    @property
    def outpoint(self) -> bytes:
        """The 36 bytes that stand for the bond."""
        return self.node_id + NO_VOUT

    @property
    def weight(self) -> int:
        """What it counts in a draw."""
        return 1

    def fee(self, amount_sat: int) -> int:
        """Return the fee of a verdict on a trade of `amount_sat`."""
        return self.fee_base + amount_sat * self.fee_ppm // 1_000_000

    def array(self) -> tuple[Any, ...]:
        """Return the fields that are hashed and signed."""
        bond = (self.outpoint, b"", 0, 0, (), b"", 0)
        account = (self.node_id, self.point, self.chain_code, self.fee_base, self.fee_ppm)
        return (BONDLESS, self.network.name, *bond, *account, self.at_height, self.at_hash)

    @cached_property
    def id(self) -> bytes:
        """The record's id: a malleated signature does not make another record."""
        return wire.digest(wire.tag(self.network.name, "arbiter"), self.array())

    def signed(self, key: Identity, sign_point: Callable[[bytes], bytes]) -> Self:
        """Return it signed by the node's key and, BIP 340, by the arbitration key."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        signatures = {"node_sig": key.sign(self.id), "key_sig": sign_point(self.id)}
        return type(self)(**(values | signatures))

    def wire(self) -> bytes:
        """Return the bytes that are published."""
        return wire.pack((self.array(), self.node_sig, self.key_sig))

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and verify. Raises InvalidRecord naming the field."""
        record = wire.fields("record", wire.unpack("record", raw, limit=MAX_BYTES), 3)
        found = wire.fields("fields", record[0], 16)
        wire.within("version", found[0], BONDLESS, BONDLESS)
        if found[1] != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        names = ("node_id", "point", "chain_code", "fee_base", "fee_ppm", "at_height", "at_hash")
        made = cls(
            network=network,
            **dict(zip(names, found[9:], strict=True)),
            node_sig=wire.exact("node_sig", record[1], 64),
            key_sig=wire.exact("key_sig", record[2], 64),
        )
        if made.array() != found:
            raise InvalidRecord("outpoint", "or another bond field does not fit a bondless record")
        identity.verify("node_sig", made.node_id, made.id, made.node_sig)
        verify_schnorr(made.point, made.id, made.key_sig, "key_sig")
        return made
