"""What has passed lately: ids seen, and messages held for those who ask (gossipsub v1.0).

Both are bounded in number, the second in bytes too; the oldest goes first. A place in the
history lasts five heartbeats; ids of the last three are offered by IHAVE.
"""

from collections import OrderedDict, deque
from typing import Final

from p2pnode.base.ports import Verdict

SEEN_S: Final = 120.0
MAX_SEEN: Final = 32_768
WINDOWS: Final = 5
GOSSIP_WINDOWS: Final = 3
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
RETRANSMISSIONS: Final = 3  # how often one peer gets one message on its IWANT


class Seen:
    """Ids of messages that came or went within two minutes, with what was made of them."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[float, Verdict | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, id: bytes) -> bool:
        return id in self._held

    def verdict(self, id: bytes) -> Verdict | None:
        """Return what was made of a message; None while it is judged, or if it is unknown."""
        return self._held.get(id, (0.0, None))[1]

    def note(self, id: bytes, verdict: Verdict | None, now: float) -> None:
        """Remember an id; a verdict leaves its age as it is."""
        until = self._held[id][0] if id in self._held else now + SEEN_S
        self._held[id] = (until, verdict)
        while len(self._held) > MAX_SEEN:
            self._held.popitem(last=False)

    def forget(self, id: bytes) -> None:
        """Let a message come once more."""
        self._held.pop(id, None)

    def expire(self, now: float) -> None:
        """Forget what is over two minutes old."""
        while self._held and next(iter(self._held.values()))[0] <= now:
            self._held.popitem(last=False)


class _Held:
    __slots__ = ("data", "sent", "topic")

    def __init__(self, topic: str, data: bytes) -> None:
        self.topic, self.data = topic, data
        self.sent: dict[bytes, int] = {}  # to whom, on his IWANT, how often


class History:
    """Messages by id for five heartbeats (the spec's `mcache`)."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}
        self._windows: deque[list[bytes]] = deque([[]], WINDOWS)  # the newest first
        self.size = 0  # bytes of data

    def __len__(self) -> int:
        return len(self._held)

    def put(self, id: bytes, topic: str, data: bytes) -> None:
        """Hold a message that may be passed on."""
        if id in self._held:
            return
        self._held[id] = _Held(topic, data)
        self._windows[0].append(id)
        self.size += len(data)
        while self.size > MAX_HELD_BYTES:
            oldest = next(iter(self._held))
            self._drop(oldest)

    def ids(self, topic: str) -> list[bytes]:
        """Return what IHAVE offers of a topic."""
        recent = list(self._windows)[:GOSSIP_WINDOWS]
        held = self._held
        return [id for ids in recent for id in ids if id in held and held[id].topic == topic]

    def wanted(self, id: bytes, peer: bytes) -> tuple[str, bytes] | None:
        """Return topic and data for a peer's IWANT, None if unknown or sent often enough."""
        held = self._held.get(id)
        if held is None or held.sent.get(peer, 0) >= RETRANSMISSIONS:
            return None
        held.sent[peer] = held.sent.get(peer, 0) + 1
        return held.topic, held.data

    def shift(self) -> None:
        """Begin a window; what is older than five is dropped."""
        if len(self._windows) == WINDOWS:
            for id in self._windows[-1]:
                self._drop(id)
        self._windows.appendleft([])

    def _drop(self, id: bytes) -> None:
        held = self._held.pop(id, None)
        if held is not None:
            self.size -= len(held.data)
