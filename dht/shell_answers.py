"""What this node answers when it is asked (docs/wire/dht.md, "Streams and frames")."""

from typing import Any, Final

from dht import rpc
from dht.endpoint import Peer
from dht.records import Kinds
from dht.rpc import Ask
from dht.shell_contacts import Contacts
from dht.store_records import RecordStore
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ports import Clock, Streams

PAGE_RECORDS: Final = 64  # read from the store for one answer


class Answers:
    """Answers questions from the routing table and the store; checks what it is to store."""

    def __init__(
        self, streams: Streams, contacts: Contacts, kinds: Kinds, store: RecordStore, clock: Clock
    ) -> None:
        self._streams = streams
        self._contacts = contacts
        self._kinds = kinds
        self._store = store
        self._clock = clock

    def serve(self, peer: bytes, ask: Ask) -> Any:
        """Return the result. Raises InvalidRecord for a question that cannot be answered."""
        match ask.method:
            case rpc.HELLO:
                self._contacts.greeted(Peer(peer, rpc.hello_args(ask.args)))
                return self._streams.addrs()
            case rpc.PING:
                return ()
            case rpc.FIND_NODE:
                return rpc.peers_out(self._closest(rpc.key_args(ask.args), peer))
            case rpc.FIND_VALUE:
                return self._page(peer, *rpc.value_args(ask.args))
            case rpc.STORE:
                kind, key, raw = rpc.store_args(ask.args)
                record = self._kinds.admit(kind, key, raw, self._clock.now())
                return (int(self._store.put(record)),)
            case _:
                raise InvalidRecord("method", "is not known here")

    def _page(self, peer: bytes, kind: str, key: bytes, cursor: bytes) -> Any:
        held = self._store.page(kind, key, cursor, self._clock.now(), PAGE_RECORDS)
        named = [] if cursor else self._closest(key, peer)
        raws = [(r.owner + r.id, r.raw) for r in held]
        return rpc.page_out(named, raws, more=len(held) == PAGE_RECORDS)

    def _closest(self, key: bytes, asker: bytes) -> list[Peer]:
        table = self._contacts.table
        near = table.closest(key, table.ksize + 1)
        return [peer for peer in near if peer.node_id != asker][: table.ksize]
