"""The Bitcoin networks the protocol knows, and the numbers that differ between them.

The name is in every domain tag, DHT key and protocol id, so nothing crosses over.
`sandbox` is regtest's consensus under a DHT namespace of its own. Only private networks
admit arbiters without a fidelity bond (docs/draw.md).
"""

from dataclasses import dataclass
from typing import Final

from p2pnode.base.errors import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network's parameters. Times in seconds, bits of work, heights in blocks."""

    name: str
    bitcoin: str  # what bitcoin libraries call its consensus: main, testnet4, signet, regtest
    hrp: str  # BIP 173 human-readable part
    coin_type: int  # SLIP 44
    genesis: str  # block hash as displayed
    identity_bits: int  # leading zero bits a node key must hash to
    take_bits: int  # the same for a TAKE
    offer_bits: int  # the same for an offer in a maker's first slots
    mailbox_bits: int  # the same for a mailbox entry
    shards: int  # how many DHT keys one market is spread over
    min_arbiters: int  # a draw with fewer eligible bonds is refused
    min_amount_sat: int
    bondless: bool  # records of weight 1 without a bond are admitted
    bond_age: int  # a bond is this deep at a draw's anchor
    bond_lock_s: int  # and stays locked this long after the anchor's median time past
    bond_weight: int  # and weighs so much: satoshi times years locked, a year at most

    def protocol(self, room: str) -> str:
        """Return the libp2p protocol id of a room: dht, trade."""
        return f"/p2pnode/{self.name}/{room}/1"


def _public(name: str, hrp: str, coin_type: int, genesis: str) -> Network:
    return Network(
        name=name,
        bitcoin=name,
        hrp=hrp,
        coin_type=coin_type,
        genesis=genesis,
        identity_bits=16,
        take_bits=20,
        offer_bits=20,
        mailbox_bits=20,
        shards=16 if name == "main" else 1,
        min_arbiters=7,
        min_amount_sat=200_000,
        bondless=False,
        bond_age=2016,
        bond_lock_s=90 * 86_400,
        bond_weight=1_000_000,
    )


def _private(name: str) -> Network:
    return Network(
        name=name,
        bitcoin="regtest",
        hrp="bcrt",
        coin_type=1,
        genesis="0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        identity_bits=8,
        take_bits=8,
        offer_bits=8,
        mailbox_bits=8,
        shards=1,
        min_arbiters=3,
        min_amount_sat=200_000,
        bondless=True,
        bond_age=2,
        bond_lock_s=3600,
        bond_weight=1,
    )


NETWORKS: Final = {
    n.name: n
    for n in (
        _public(
            "main", "bc", 0, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
        ),
        _public(
            "testnet4", "tb", 1, "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"
        ),
        _public(
            "signet", "tb", 1, "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"
        ),
        _private("regtest"),
        _private("sandbox"),
    )
}


def network(name: str) -> Network:
    """Return the parameters of `name`. Raises Misconfigured."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise Misconfigured(
            f"network: {name[:40]!r} is none of {', '.join(NETWORKS)}", field="network"
        ) from None
