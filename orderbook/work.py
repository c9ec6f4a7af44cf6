"""The proof of work on offers: each further live offer of a maker costs more.

    work good:  H("offer-work", [maker, currency, slot, day, work]) begins with needed_bits zeros

A maker numbers his live offers by slots; a record store and every book hold one offer for
each (maker, slot) of a market, so a second offer in a slot only replaces the first. Eight
slots cost the same, the next eight twice that, and so on. The work binds neither price nor
text: editing and refreshing are free for the day (UTC) that it names.
"""

import hashlib
from typing import Final

import msgpack

from p2pnode.base import wire
from p2pnode.base.networks import Network

MAX_SLOTS: Final = 64
SLOTS_AT_ONE_COST: Final = 8
DAY_S: Final = 86_400
MAX_WORK: Final = 2**62


def needed_bits(network: Network, slot: int) -> int:
    """Return how many leading zero bits an offer in this slot must show."""
    return network.offer_bits + slot // SLOTS_AT_ONE_COST


def day_of(expires_at: int) -> int:
    """Return the day that a version's work must name: the one it expires on."""
    return expires_at // DAY_S


def bits(network: Network, maker: bytes, currency: str, slot: int, day: int, work: int) -> int:
    """Return how many leading zero bits a work shows."""
    plain = msgpack.packb((maker, currency, slot, day, work), use_bin_type=True)
    hashed = hashlib.sha256(wire.tag(network.name, "offer-work") + plain).digest()
    return wire.leading_zero_bits(hashed)


def find(
    network: Network, maker: bytes, currency: str, slot: int, day: int, *, start: int, tries: int
) -> int | None:
    """Search `tries` values from `start` for a good work; None if there is none among them."""
    head = wire.tag(network.name, "offer-work") + bytes([0x95])
    head += b"".join(msgpack.packb(v, use_bin_type=True) for v in (maker, currency, slot, day))
    limit = 1 << (256 - needed_bits(network, slot))
    sha256, pack = hashlib.sha256(head), msgpack.packb
    for value in range(start, start + tries):
        trial = sha256.copy()
        trial.update(pack(value))
        if int.from_bytes(trial.digest(), "big") < limit:
            return value
    return None
