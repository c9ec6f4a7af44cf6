"""What this node answers when it is asked (docs/wire/dht.md, "Streams and frames").

It answers from the routing table and the store, checks what it is to keep, and tells at
once whoever listens to a key that something has changed there.
"""

from collections.abc import Callable
from typing import Any, Final

import trio

from dht import rpc
from dht.endpoint import Peer
from dht.listens import Listens
from dht.records import Kinds, Record
from dht.rpc import Ask
from dht.shell_contacts import Contacts
from dht.shell_serve import Caller
from dht.standing import Event, is_lie
from dht.store_records import Kept, RecordStore
from dht.tally import Tally
from p2pnode.base import ranges, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ports import Clock, Streams
from p2pnode.base.quota import Buckets

PAGE_RECORDS: Final = 64  # read from the store for one answer
MAX_TOUCHED: Final = 65_536  # keys stored to since the last comparisons
NEWS: Final = 8  # versions of one record that listeners are told at once
NEWS_S: Final = 30.0  # and one more after so long: a version may cost its owner nothing


class Answers:
    """Answers questions; `keep` is the one way into the store."""

    def __init__(
        self,
        streams: Streams,
        contacts: Contacts,
        kinds: Kinds,
        store: RecordStore,
        clock: Clock,
        tally: Tally,
        *,
        listens: int,
    ) -> None:
        self._streams, self._contacts, self._kinds = streams, contacts, kinds
        self._store, self._clock, self._tally = store, clock, tally
        self.listens: Listens[Caller] = Listens(listens, lambda c: contacts.party(c.peer, c.host))
        self.own: dict[tuple[str, bytes], Callable[[tuple[bytes, ...]], object]] = {}  # listen here
        self._paces = Buckets(1 / NEWS_S, NEWS)  # of records, by place
        self.touched: dict[tuple[str, bytes], float] = {}  # keys stored to by others -> when

    def serve(self, caller: Caller, ask: Ask) -> Any:
        """Return the result. Raises InvalidRecord for a question that cannot be answered."""
        match ask.method:
            case rpc.HELLO:
                self._contacts.greeted(Peer(caller.peer, rpc.hello_args(ask.args)), caller.host)
                return self._streams.addrs()
            case rpc.PING:
                return wire.fields("ping", ask.args, 0)
            case rpc.FIND_NODE:
                return rpc.peers_out(self._closest(rpc.key_args(ask.args), caller.peer))
            case rpc.FIND_VALUE:
                return self._page(caller.peer, *rpc.value_args(ask.args))
            case rpc.STORE:
                return self._stored(caller, *rpc.store_args(ask.args))
            case rpc.LISTEN:
                return self._granted(caller, ask.id, *rpc.listen_args(ask.args))
            case rpc.DIGEST:
                kind, key, low, high = rpc.digest_args(ask.args)
                items = self._store.items(kind, key, self._clock.now())
                return ranges.parts_out(ranges.parts(items, low, high))
            case _:
                raise InvalidRecord("method", "is not known here")

    def keep(self, record: Record, teller: Caller | None = None) -> Kept:
        """Store a valid record and tell those who listen to its key, but for its teller."""
        kept = self._store.put(record, self._kinds.bounds(record.kind))
        self._tally.add(f"records_{kept.name.lower()}")
        if kept is Kept.NEW:
            now = trio.current_time()
            if take := self.own.get((record.kind, record.key)):
                take((record.raw,))
            if not self._paces.take((record.kind, record.key, record.owner, record.id), now):
                self._tally.add("news_held")
                return kept  # who listens finds the last one when he compares
            for caller, number in self.listens.of((record.kind, record.key), now):
                if caller is teller:
                    continue
                if caller.push(number, (record.raw,)):
                    self._tally.add("news_sent")
                else:  # it reads too slowly, or has gone
                    self._tally.add("news_dropped")
                    self.listens.forget(caller)
                    caller.end()
        return kept

    def _stored(self, caller: Caller, kind: str, key: bytes, raw: bytes) -> Any:
        try:
            record = self._kinds.admit(kind, key, raw, self._clock.now())
        except InvalidRecord as error:
            if is_lie(error):
                self._contacts.note(caller.peer, caller.host, Event.FORGED)
            raise
        kept = self.keep(record, caller)
        if kept.held and ((kind, key) in self.touched or len(self.touched) < MAX_TOUCHED):
            self.touched[kind, key] = trio.current_time()
        return int(kept.held), rpc.peers_out(self._closest(key, caller.peer))

    def _granted(self, caller: Caller, number: int, kind: str, key: bytes, seconds: int) -> Any:
        if kind not in self._kinds:
            raise InvalidRecord("kind", "is not known here")
        now = trio.current_time()
        granted, ousted = self.listens.grant(caller, number, (kind, key), seconds, now)
        if ousted is not None:  # its party held the most of all places
            self._tally.add("listens_ousted")
            ousted.end()
        if granted < seconds:
            self._tally.add("listens_refused")
        return (granted,)

    def _page(self, peer: bytes, kind: str, key: bytes, cursor: bytes) -> Any:
        held = self._store.page(kind, key, cursor, self._clock.now(), PAGE_RECORDS)
        named = [] if cursor else self._closest(key, peer)
        raws = [(r.owner + r.id, r.raw) for r in held]
        return rpc.page_out(named, raws, more=len(held) == PAGE_RECORDS)

    def _closest(self, key: bytes, asker: bytes) -> list[Peer]:
        table = self._contacts.table
        near = table.closest(key, table.ksize + 1)
        return [peer for peer in near if peer.node_id != asker][: table.ksize]
