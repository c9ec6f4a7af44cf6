"""One whole trade with every attack of a table tried on the way: the machinery, no rows.

A campaign plays an honest trade. Before each message of it arrives, its sender turns thief: the
rows for that message are tried one after the other on the recipient, and what each of them got
and changed is written down. Then the honest message arrives, and the trade must go on as if
nothing had been.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio
from coincurve import PrivateKey
from trade_kit import NET, Frame, Node, Rig, resigned, rig

from escrow.keys import ORDER
from escrow.messages import Kind, Message
from escrow.shell_inbox import LATER, REFUSED, SHOW, USED
from p2pnode.base import wire
from p2pnode.base.identity import Identity

STRANGER = Identity.grind(NET, b"nobody in particular".ljust(32))


@dataclass
class Scene:
    """The moment before an honest message arrives."""

    rig: Rig
    frame: Frame
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> Message:
        return self.frame.message

    @property
    def thief(self) -> Node:
        return self.rig[self.frame.sender]

    @property
    def victim(self) -> Node:
        return self.rig[self.frame.recipient]

    @property
    def role(self) -> str:
        """maker, taker or arbiter: who turns thief."""
        return self.frame.sender.rstrip("0123456789")

    @property
    def trade_id(self) -> bytes:
        return self.message.trade

    @property
    def other_arbiter(self) -> Node:
        """An arbiter who was not drawn, not even as runner-up."""
        contract = self.rig["maker"].facts(self.trade_id).contract
        drawn = {contract.arbiter, contract.runner_up}
        arbiters = (n for n in self.rig.nodes.values() if n.name.startswith("arbiter"))
        return next(n for n in arbiters if n.id not in drawn)

    @property
    def payload(self) -> list[Any]:
        """The honest payload as nested lists, to be altered."""
        return thaw(wire.unpack("payload", self.message.payload, limit=1 << 20))

    def header(self, **change: Any) -> bytes:
        """The honest message with header fields changed, signed by its sender."""
        return resigned(self.message, self.thief.identity, **change)

    def saying(self, payload: Any, kind: Kind | None = None) -> bytes:
        """The honest header over another payload, signed by its sender."""
        raw = payload if isinstance(payload, bytes) else wire.pack(freeze(payload))
        change: dict[str, Any] = {"kind": kind, "draw_no": 0} if kind else {}
        return self.header(payload=raw, **change)

    def again(self, kind: Kind) -> bytes:
        """What the sender has said before, said once more as his next message."""
        said = self.thief.said(self.trade_id, kind)
        assert said is not None
        return self.saying(said.payload, kind)

    def set(self, *path: int, to: Any) -> bytes:
        """The honest message with one place of its payload changed. `to` may be a function."""
        payload = self.payload
        place = payload
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to(place[path[-1]]) if callable(to) else to
        return self.saying(payload)

    def body(self, index: int, value: Any) -> bytes:
        """The honest message with one place of its header's array changed, signed over that."""
        body = list(self.message.body())
        body[index] = value
        return signed_body(body, self.message.payload, self.thief.identity)


def signed_body(
    body: Sequence[Any], payload: bytes, key: Identity, network: str = NET.name
) -> bytes:
    hashed = wire.digest(wire.tag(network, "message"), list(body))
    return wire.pack((tuple(body), key.sign(hashed), payload))


def thaw(value: Any) -> Any:
    return [thaw(v) for v in value] if isinstance(value, tuple) else value


def freeze(value: Any) -> Any:
    return tuple(freeze(v) for v in value) if isinstance(value, list) else value


Forged = bytes | tuple[str, bytes]  # the message, or on whose connection it comes too
Forge = Callable[[Scene], Forged | Awaitable[Forged]]


@dataclass(frozen=True)
class Row:
    """One attack: before which message, under what name, how, and what the refusal says."""

    at: Kind
    name: str
    forge: Forge
    words: str  # a regular expression that the reply must match
    later: bool = False  # "not yet" is the right answer: nothing is kept, nothing is refused
    used: bool = False  # answered by the message that its sender signed by that number before
    show: bool = False  # answered by "show me that message of mine", and kept in doubt
    refuse: bool = False  # a TAKE that policy refuses: answered by a signed REFUSE

    @property
    def id(self) -> str:
        return f"{self.at.name}: {self.name}"

    @property
    def status(self) -> int:
        """The reply that is right."""
        flags = ((self.later, LATER), (self.used, USED), (self.show, SHOW))
        return next((status for flag, status in flags if flag), REFUSED)


@dataclass(frozen=True)
class Tried:
    """What an attack got and changed."""

    row: Row
    sender: str
    status: int
    text: str
    changed: str  # what differs in the victim's journal, locks, coins and signatures
    logged: str
    answers: tuple[tuple[str, ...], ...] = ()  # field and value of each REFUSE that it was sent


class Campaign:
    """The hook that tries the rows; `tried` is by row id and sender."""

    def __init__(self, rows: Iterable[Row], lost: Iterable[Kind] = ()) -> None:
        self.rows = list(rows)
        self.lost = set(lost)  # kinds whose messages never arrive
        self.tried: dict[tuple[str, str], Tried] = {}
        self.rig: Rig
        self._done: set[bytes] = set()

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        rows = [r for r in self.rows if r.at is frame.kind]
        if frame.message.id not in self._done and rows:
            self._done.add(frame.message.id)
            scene = Scene(self.rig, frame)
            for row in rows:
                if (row.id, scene.role) not in self.tried:
                    await self._try(row, scene)
        return [] if frame.kind in self.lost else [frame.raw]

    async def _try(self, row: Row, scene: Scene) -> None:
        made = row.forge(scene)
        forged: Forged = made if isinstance(made, (bytes, tuple)) else await made
        by, raw = (scene.frame.sender, forged) if isinstance(forged, bytes) else forged
        await scene.rig.quiet(scene.victim.name, scene.trade_id)
        before, line = scene.victim.snapshot(), len(scene.rig.log)
        status, text = await scene.rig.inject(by, scene.victim.name, raw)
        if row.show:  # he who lies so keeps his peer from new words: end that for the next rows
            scene.victim.database.run("DELETE FROM doubt")
        answers = _refusals(scene.victim) if row.refuse else ()
        changed = difference(before, scene.victim.snapshot())
        logged = "\n".join(scene.rig.log[line:])
        self.tried[row.id, scene.role] = Tried(
            row, scene.role, status, text, changed, logged, answers
        )


def _refusals(node: Node) -> tuple[tuple[str, ...], ...]:
    found = node.database.all("SELECT raw FROM message WHERE kind = ?", int(Kind.REFUSE))
    payloads = (Message.from_wire(r["raw"], NET).payload for r in found)
    read = (wire.unpack("refuse", p, limit=4096) for p in payloads)
    return tuple((field, value) for _, field, value in read)


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name what differs between two snapshots, or nothing."""
    found = []
    for name in before:
        if before[name] != after[name]:
            found.append(f"{name}: {str(before[name])[:200]} -> {str(after[name])[:200]}")
    return "; ".join(found)


def play(
    rows: Iterable[Row],
    story: Callable[[Rig], Awaitable[None]],
    *,
    lost: Iterable[Kind] = (),
    **options: Any,
) -> dict[tuple[str, str], Tried]:
    """Run a story with a campaign on its messages; the story's own asserts must hold."""
    campaign = Campaign(rows, lost)

    async def main() -> None:
        async with rig(strangers=("stranger",), **options) as r:
            campaign.rig = r
            r.post.hook = campaign
            await story(r)

    trio.run(main)
    return campaign.tried


# ------------------------------------------------------------------ bytes a thief would send


def flip(value: bytes) -> bytes:
    """Change one bit, the last."""
    return value[:-1] + bytes([value[-1] ^ 1])


def high_s(signature: bytes) -> bytes:
    """The same ECDSA signature (DER and sighash byte) with S replaced by n - S."""
    der, kind = signature[:-1], signature[-1:]
    r_end = 4 + der[3]
    r, s = der[2:r_end], int.from_bytes(der[r_end + 2 :], "big")
    other = (ORDER - s).to_bytes(33, "big").lstrip(b"\0")
    other = (b"\0" if other[0] & 0x80 else b"") + other
    body = r + b"\x02" + bytes([len(other)]) + other
    return b"\x30" + bytes([len(body)]) + body + kind


def high_s_ed25519(signature: bytes) -> bytes:
    """The same Ed25519 signature with S + L: RFC 8032 refuses it, lax verifiers do not."""
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    return signature[:32] + s.to_bytes(32, "little")


def ecdsa(secret: bytes, digest: bytes, sighash: int = 1) -> bytes:
    """A signature of whatever one likes."""
    return PrivateKey(secret).sign(digest, hasher=None) + bytes([sighash])


def raw_message(message: Message, **change: Any) -> bytes:
    """A message with its signature replaced, and nothing signed anew."""
    return replace(message, **change).wire()
