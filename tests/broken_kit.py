"""Signed TAKE and DRAW headers for the tests of broken draws."""

import hashlib
from functools import cache
from typing import Any

from escrow.broken import BrokenDraw
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import Abort
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS, Network

NET = NETWORKS["sandbox"]


def h(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def who(name: str, network: Network = NET) -> Identity:
    return Identity.grind(network, h(name))


def said(kind: Kind, sender: Identity, recipient: Identity, **change: Any) -> Message:
    """A message of `sender`; any line of its header may be another."""
    values: dict[str, Any] = {
        "network": NET,
        "kind": kind,
        "trade_id": ZERO,
        "sender": sender.node_id,
        "recipient": recipient.node_id,
        "seq": 0,
        "prev": ZERO,
        "seen": ZERO,
        "tip_height": 250,
        "tip_hash": h("tip"),
        "draw_no": 0,
        "payload": b"\x91\x01",
    }
    return Message(**(values | change)).signed(sender)


def take_of(taker: str = "taker", maker: str = "maker", number: int = 7, **change: Any) -> Message:
    return said(Kind.TAKE, who(taker), who(maker), **({"draw_no": number} | change))


def draw_of(take: Message, maker: str = "maker", number: int = 9, **change: Any) -> Message:
    taker = next(i for i in map(who, ("taker", "maker", "third")) if i.node_id == take.sender)
    values = {"trade_id": take.id, "seen": take.id, "draw_no": number} | change
    return said(Kind.DRAW, who(maker), taker, **values)


def entry(number: int = 7, answer: int = 9, **change: Any) -> BrokenDraw:
    take = take_of(number=number, **change)
    return BrokenDraw.of(take, draw_of(take, number=answer))


def abort(sender: str, recipient: str, reason: str, trade_id: bytes) -> Message:
    words = Abort(reason=reason).wire()
    return said(Kind.ABORT, who(sender), who(recipient), trade_id=trade_id, payload=words)
