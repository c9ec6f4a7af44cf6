"""The protobuf of libp2p pubsub, put together and taken apart within bounds.

`libp2p.pubsub.pb` is the schema (`RPC`, `ControlMessage`); nothing else of that package is
used here (docs/decisions.md). What a list holds beyond its bound is left out, and what is
too long or names no topic: a peer of another program may say more than we listen to.
"""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError
from libp2p.pubsub.pb.rpc_pb2 import RPC

from dht.gossip_wire import (
    ID_BYTES,
    MAX_CONTROL,
    MAX_DATA,
    MAX_IHAVE_IDS,
    MAX_IWANT_IDS,
    MAX_MESSAGES,
    MAX_SUBSCRIPTIONS,
    MAX_TOPIC,
    Rpc,
)
from p2pnode.base.errors import InvalidRecord

SIGNED: Final = ("from_id", "seqno", "signature", "key")
MAX_PRUNE_S: Final = 2**32


def encode(rpc: Rpc) -> bytes:
    """Return an RPC's bytes. Two of them behind each other are the RPC of both."""
    made = RPC()
    for topic, on in rpc.subscriptions:
        made.subscriptions.add(subscribe=on, topicid=topic)
    for topic, data in rpc.messages:
        made.publish.add(data=data, topicIDs=[topic])
    for topic, ids in rpc.ihave:
        made.control.ihave.add(topicID=topic, messageIDs=ids)
    if rpc.iwant:
        made.control.iwant.add(messageIDs=rpc.iwant)
    for topic in rpc.graft:
        made.control.graft.add(topicID=topic)
    for topic, backoff in rpc.prune:
        made.control.prune.add(topicID=topic, backoff=backoff)
    return bytes(made.SerializeToString())


def decode(raw: bytes) -> Rpc:
    """Return what a peer says. Raises InvalidRecord if it is no RPC."""
    told = RPC()
    try:
        told.ParseFromString(raw)
    except DecodeError:
        raise InvalidRecord("rpc", "is not protobuf of libp2p pubsub") from None
    messages, unfit = _messages(told.publish)
    control = told.control
    named = (
        *(s.topicid for s in told.subscriptions[:MAX_SUBSCRIPTIONS]),
        *(g.topicID for g in control.graft[:MAX_CONTROL]),
        *(p.topicID for p in control.prune[:MAX_CONTROL]),
    )
    return Rpc(
        subscriptions=tuple(
            (s.topicid, s.subscribe)
            for s in told.subscriptions[:MAX_SUBSCRIPTIONS]
            if _is_topic(s.topicid)
        ),
        messages=messages,
        ihave=_ihave(control.ihave),
        iwant=_iwant(control.iwant),
        graft=tuple(g.topicID for g in control.graft[:MAX_CONTROL] if _is_topic(g.topicID)),
        prune=tuple(
            (p.topicID, min(p.backoff, MAX_PRUNE_S))
            for p in control.prune[:MAX_CONTROL]
            if _is_topic(p.topicID)
        ),
        unfit=unfit + sum(not topic for topic in named),
    )


def _messages(told: Any) -> tuple[tuple[tuple[str, bytes], ...], int]:
    kept, unfit = [], 0
    for message in told[:MAX_MESSAGES]:
        topics = message.topicIDs
        signed = any(message.HasField(name) for name in SIGNED)
        if signed or len(topics) != 1 or not 0 < len(message.data) <= MAX_DATA:
            unfit += 1
        elif _is_topic(topics[0]):
            kept.append((topics[0], message.data))
    return tuple(kept), unfit


def _ihave(told: Any) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    room, found = MAX_IHAVE_IDS, []
    for offer in told[:MAX_CONTROL]:
        ids = tuple(offer.messageIDs[:room])
        room -= len(ids)
        if _is_topic(offer.topicID):
            found.append((offer.topicID, _ids(ids)))
    return tuple(found)


def _iwant(told: Any) -> tuple[bytes, ...]:
    ids: list[bytes] = []
    for wish in told[:MAX_CONTROL]:
        ids += wish.messageIDs[: MAX_IWANT_IDS - len(ids)]
    return _ids(ids)


def _ids(ids: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(id for id in ids if len(id) == ID_BYTES)


def _is_topic(topic: object) -> bool:
    """Tell whether a name is text of fit length; what is not UTF-8 the library gives as bytes."""
    return type(topic) is str and 0 < len(topic.encode(errors="replace")) <= MAX_TOPIC
