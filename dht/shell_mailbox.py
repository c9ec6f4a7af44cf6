"""Mailboxes as the node uses them: post, collect, applied, seen.

    post ── committed ── put, put again every 4 h ──┬── seen (its deletion is put)
                                                    ├── the peer's deletion is found
                                                    └── its day is 29 days ago
    collect ── letter ── applied, committed ── deletion put until somebody holds it

`post`, `applied` and `seen` only write, and may be called inside the caller's transaction:
what they promise is done by `run`, also after a crash. Whatever is repeated is the same
bytes, so repeating is harmless (docs/wire/mailbox.md).
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import trio

from dht import letters, mailbox
from dht.letters import Box, Letter, Line, Part
from dht.mailbox import DAY, KIND, OPEN, SLOTS, Entry, Work
from dht.records import Record
from dht.shell_mailread import Holders, Reader
from dht.store_mailbox import WORD, Gone, Item, Outbox
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, NodeError
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock
from p2pnode.base.secret import Secret
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)

REPUT_S: Final = 4 * 3600  # holders come and go; six puts a day outlive them
FIRST_RETRY_S: Final = 60  # after a put that nobody acknowledged, doubled up to REPUT_S
LONGEST_SLEEP_S: Final = 60.0
SLICE: Final = 2048  # hashes between two checkpoints, a millisecond or two
EXTRA_BITS: Final = 6  # how far above the network's work we go to stay in a full open box


class Mailbox:
    """One node's letters, both ways."""

    def __init__(
        self,
        holders: Holders,
        identity: Identity,
        network: Network,
        clock: Clock,
        database: Database,
    ) -> None:
        self._holders = holders
        self._identity = identity
        self._network = network
        self._clock = clock
        self._database = database
        self._store = Outbox(database)
        self._reader = Reader(holders, identity, network, clock)
        self._wake = trio.Event()

    # ------------------------------------------------------------------ what the caller tells

    def post(self, line: Line, number: int, payload: bytes, *, word: bool = False) -> None:
        """Have the letter `number` of a line lie in the peer's mailbox until it is seen.

        Again with the same payload is nothing. With `word` a first word is left in the
        peer's open box: he does not know of the line yet. Raises InvalidRecord for a peer
        or payload that cannot be, LocalFault for another payload of a posted number, or
        when the day's boxes are full.
        """
        wire.within("number", number, 0, letters.MAX_NUMBER)
        wire.exact("trade_id", line.trade_id, 32)
        chunks, whole = letters.split(payload), hashlib.sha256(payload).digest()
        secret, now = self._secret(line), self._clock.now()
        with self._database.transaction():
            self._store.purge(now)
            posted = self._store.whole(line.peer, line.trade_id, number)
            if posted is None:
                parts = [Part(number, i, len(chunks), whole, c) for i, c in enumerate(chunks)]
                self._add(line, secret, parts, now)
            elif posted != whole:
                raise LocalFault("another letter of this number was posted")
            if word and self._store.whole(line.peer, line.trade_id, WORD) is None:
                self._add_word(line, secret, now)
        self._wake.set()

    def _add(self, line: Line, secret: Secret[bytes], parts: list[Part], now: int) -> None:
        day = now // DAY
        first = self._store.next_slot(line.peer, line.trade_id, day)
        if first + len(parts) > letters.SHELVES * SLOTS:
            raise LocalFault("the mailbox of this peer and trade is full for today")
        for slot, part in enumerate(parts, first):
            box = letters.closed_box(self._network, secret, day, slot // SLOTS)
            sealed = letters.seal_part(box, line.peer, slot % SLOTS, part)
            self._store.add(
                (line.peer, line.trade_id),
                (part.number, part.part, part.whole),
                (day, slot),
                sealed,
                now,
            )

    def _add_word(self, line: Line, secret: Secret[bytes], now: int) -> None:
        day = now // DAY
        box = letters.word_box(self._network, secret, line.peer, day)
        sealed = letters.seal_word(box, line.peer, self._identity.node_id, line.trade_id)
        at = (line.peer, line.trade_id)
        self._store.add(at, (WORD, 0, b""), (day, WORD), sealed, now)

    def seen(self, line: Line, number: int) -> None:
        """Take note that the peer has applied our letters up to `number`: they are deleted."""
        with self._database.transaction():
            self._withdraw(self._store.items(line.peer, line.trade_id, number))
        self._wake.set()

    def _withdraw(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.nonce:  # else nobody can hold it
                self._delete(*self._place(item))
        self._store.end(items)

    def applied(self, letter: Letter) -> None:
        """Take note that a letter was applied, or refused: it comes no more and is deleted."""
        line, now = letter.line, self._clock.now()
        with self._database.transaction():
            self._store.apply(line.peer, line.trade_id, letter.number, letter.whole, now)
            for box, entry in (*letter.entries, *self._reader.words(line)):
                self._delete(box, entry)
        self._wake.set()

    def _delete(self, box: Box, entry: Entry) -> None:
        raw = box.sign(entry.gone())
        self._store.delete(entry.owner, entry.number, raw, self._clock.now(), entry.expires_at)

    async def collect(self, lines: Iterable[Line], *, words: bool = False) -> tuple[Letter, ...]:
        """Read the lines' mailboxes; return what was not applied yet, a line's by number.

        With `words` also the lines that strangers' first words name. A letter comes again
        in the next call until `applied` is told of it.
        """
        found: list[Letter] = []
        for line, opened in await self._reader.lines(lines, words=words):
            known = self._store.applied(line.peer, line.trade_id)
            for box, entry, part in opened:
                if (part.number, part.whole) in known:  # its deletion has not reached them
                    self._delete(box, entry)
                    self._wake.set()
            whole = letters.joined(line, opened)
            found += [one for one in whole if (one.number, one.whole) not in known]
        return tuple(found)

    def counts(self) -> dict[str, int]:
        """Return how many entries wait to be seen, and how many deletions to be put."""
        return self._store.counts()

    # ------------------------------------------------------------------ putting

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Put what is due until cancelled."""
        task_status.started()
        while True:
            self._wake, pause = trio.Event(), LONGEST_SLEEP_S
            try:
                pause = await self.round()
            except NodeError as error:
                log.warning("the mailbox: %s", error)
            with trio.move_on_after(pause):
                await self._wake.wait()

    async def round(self) -> float:
        """Put what is due now; return for how many seconds nothing else will be."""
        now = self._clock.now()
        if lost := self._store.purge(now):
            log.warning("%d mailbox entries were never seen in their time", lost)
        for gone in self._store.gone_due(now, now + REPUT_S):
            await self._put_gone(gone)
        for id_ in self._store.due(now, now + REPUT_S):
            await self._put_item(id_)
        due = self._store.next_due()
        wait = LONGEST_SLEEP_S if due is None else due - self._clock.now()
        return min(max(1.0, wait), LONGEST_SLEEP_S)

    async def _put_gone(self, gone: Gone) -> None:
        acked = await self._put(gone.raw)
        self._store.gone_tried(gone, acked, self._next(acked, gone.tries))

    async def _put_item(self, id_: int) -> None:
        """Put one entry, unless its deletion is found; do its work first if it lacks it."""
        item = self._store.item(id_)
        if item is None:
            return
        if item.number == WORD and self._store.unheld(item.peer, item.trade_id):
            self._store.tried(item, 0, self._next(0, 0))
            return  # a word that leads nowhere helps nobody
        box, entry = self._place(item)
        bits = self._network.mailbox_bits
        if item.nonce or box.door == OPEN:
            records = await self._reader.records(box.key) or ()
            ours = [r for r in records if (r.owner, r.id) == _where(entry)]
            if any(r.seq == mailbox.DELETED for r in ours):
                self._deleted(item)
                return
            bits += _extra(box, records, bool(ours), bits)
        if not item.nonce or Work(self._network, entry).bits(item.nonce) < bits:
            nonce, seq = await self._work(entry, bits), item.seq + bool(item.nonce)
            if not self._store.worked(item, nonce, seq):
                return  # seen meanwhile
            entry = replace(entry, nonce=nonce, seq=seq)
        acked = await self._put(box.sign(entry))
        self._store.tried(item, acked, self._next(acked, item.tries))

    def _deleted(self, item: Item) -> None:
        """Put no more what the peer has deleted; he knows the line, so its word goes too."""
        with self._database.transaction():
            self._store.end([item])
            self._withdraw(self._store.items(item.peer, item.trade_id, WORD))
        self._wake.set()

    def _secret(self, line: Line) -> Secret[bytes]:
        return letters.line_secret(
            self._identity, self._network, line.peer, line.trade_id, outgoing=True
        )

    def _place(self, item: Item) -> tuple[Box, Entry]:
        """Return where an entry of ours lies, and the entry as it is now."""
        secret = self._secret(Line(item.peer, item.trade_id))
        if item.number == WORD:
            box, number = letters.word_box(self._network, secret, item.peer, item.day), 0
        else:
            shelf, number = divmod(item.slot, SLOTS)
            box = letters.closed_box(self._network, secret, item.day, shelf)
        entry = box.entry(number, item.sealed)
        return box, replace(entry, nonce=item.nonce or entry.nonce, seq=item.seq)

    def _next(self, acked: int, tries: int) -> int:
        """Return when to put again."""
        pause = REPUT_S if acked else min(FIRST_RETRY_S << min(tries, 10), REPUT_S)
        return self._clock.now() + pause

    async def _work(self, entry: Entry, bits: int) -> bytes:
        work, start = Work(self._network, entry), 0
        while (nonce := work.search(bits, start, SLICE)) is None:
            start += SLICE
            await trio.lowlevel.checkpoint()
        return nonce

    async def _put(self, raw: bytes) -> int:
        try:
            return (await self._holders.put(KIND, raw)).acked
        except NodeError as error:
            log.info("a mailbox entry was not put: %s", error)
            return 0


def _where(entry: Entry) -> tuple[bytes, bytes]:
    return entry.owner, mailbox.id_of(entry.number)


def _extra(box: Box, records: Sequence[Record], ours: bool, bits: int) -> int:
    """Return how many bits beyond the network's an entry needs to find room in an open box."""
    if box.door != OPEN or ours or len(records) < mailbox.PER_KEY:
        return 0
    least = sorted((r.rank for r in records), reverse=True)[mailbox.PER_KEY - 1]
    return max(0, min(least + 1 - bits, EXTRA_BITS))
