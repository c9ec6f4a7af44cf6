"""Trades by mail in one process: real mailboxes over holders in memory, streams that fail.

`Away` cuts every stream once the contract is signed, as if the peers were never there together;
`Postman` lets every node read its mail again and again, which nodes do every five minutes.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from mailbox_kit import Net
from trade_kit import Frame, Node, Rig, rig

from dht.shell_mailbox import Mailbox
from escrow.messages import Kind, Message
from escrow.shell_mail import STREAM_ONLY, Mail
from p2pnode.base.errors import NodeError
from p2pnode.base.networks import NETWORKS

NET = NETWORKS["sandbox"]


class Away:
    """Loses every frame that could go by mail, or every frame to one node: its peer is away."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = set(kinds)  # those that are let through all the same
        self.lost: list[tuple[Kind, str, str]] = []

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        if frame.kind in STREAM_ONLY or frame.kind in self.kinds:
            return [frame.raw]
        self.lost.append((frame.kind, frame.sender, frame.recipient))
        return []

    def kinds_lost(self) -> set[Kind]:
        return {kind for kind, _, _ in self.lost}


class Port:
    """One node's way to the holders; `on_put` sees each put of a letter after it is held."""

    def __init__(self, net: Net, name: str) -> None:
        self.net, self.name = net, name
        self.on_put: Callable[[str, Any], None] = lambda _name, _raw: None

    async def put(self, kind: str, raw: bytes) -> Any:
        await trio.lowlevel.checkpoint()
        stored = await self.net.put(kind, raw)
        self.on_put(self.name, raw)
        return stored

    async def get(self, kind: str, key: bytes) -> Any:
        await trio.lowlevel.checkpoint()
        return await self.net.get(kind, key)


class Office:
    """The holders, and a mailbox over them for each node at each start."""

    def __init__(self, net: Callable[[Any], Net] = Net) -> None:
        self._make = net
        self.net: Any = None
        self.ports: dict[str, Port] = {}
        self.on_put: Callable[[str, Any], None] = lambda _name, _raw: None

    def __call__(self, node: Node) -> Mailbox:
        if self.net is None:
            self.net = self._make(node.rig.clock)
        port = self.ports[node.name] = Port(self.net, node.name)
        port.on_put = lambda name, raw: self.on_put(name, raw)
        return Mailbox(port, node.identity, NET, node.rig.clock, node.database)


def mail(r: Rig, name: str) -> Mail:
    found = r[name].exchange._mail
    assert found is not None
    return found


async def postman(r: Rig, resting: set[str]) -> None:
    """Let every node that is up, and not told to rest, read its mail over and over."""
    while True:
        for name, node in list(r.nodes.items()):
            if node.id not in r.post.handlers or name in resting:
                continue
            try:
                await mail(r, name).collect()
            except NodeError as error:
                r.log.append(f"{name} did not read: {error}")
        await trio.sleep(0.005)


@asynccontextmanager
async def mail_rig(
    office: Office | None = None, **options: Any
) -> AsyncIterator[tuple[Rig, Office, set[str]]]:
    """A rig with mailboxes; the set holds the names of those who do not read now."""
    made, resting = office or Office(), set[str]()
    async with rig(mailbox=made, **options) as r:
        r.nursery.start_soon(postman, r, resting)
        yield r, made, resting


def said_once(r: Rig, trade_id: bytes) -> None:
    """Every message is in the journals of both its ends once, the same, in its chain's order."""
    ends: dict[bytes, set[str]] = {}
    for name, node in r.nodes.items():
        chains: dict[tuple[bytes, bytes], list[Message]] = {}
        for m in node.journal.messages(trade_id):
            chains.setdefault((m.sender, m.recipient), []).append(m)
            ends.setdefault(m.id, set()).add(name)
        for chain in chains.values():
            assert [m.seq for m in chain] == list(range(len(chain)))
    assert ends
