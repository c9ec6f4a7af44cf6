"""Reading mailboxes: a line's boxes day by day, and the first words in one's own.

Of a line yesterday's, today's and tomorrow's boxes are read each time, for clocks differ by
a day either way; every day that may still hold something about once a day, because a sender
who could not reach the holders puts his entry later, into the box of its own day. What does
not open, or was sealed for another place, is skipped.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from dht import letters, mailbox
from dht.letters import Box, Line, Part
from dht.mailbox import DAY, KIND, Entry
from dht.records import Record
from p2pnode.base.errors import InvalidRecord, NodeError
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

log: Final = logging.getLogger(__name__)

SWEEP_S: Final = 20 * 3600  # every day that may hold something is read this often
LOOKUPS: Final = 4  # at a time
MAX_OPENED: Final = 512  # entries of one line in one reading, some 6 MB
WORDS_OF_ONE: Final = 4  # lines that one sender's words of a day may name
WORDS_AT_ONCE: Final = 64  # lines known by a word alone that one reading looks at
WORD_RETRY_S: Final = 300  # then such a line waits so long, then twice as long, up to a day


class Stored(Protocol):
    """What a put says."""

    @property
    def acked(self) -> int:
        """How many nodes hold the record now."""
        ...


class Found(Protocol):
    """What a get says."""

    @property
    def records(self) -> Sequence[Record]:
        """The joined records of the key."""
        ...


class Holders(Protocol):
    """The DHT as mailboxes need it: `dht.shell_node.Dht`. Both raise NodeErrors."""

    async def put(self, kind: str, raw: bytes) -> Stored:
        """Store a record at the nodes closest to its key."""
        ...

    async def get(self, kind: str, key: bytes) -> Found:
        """Return the records of a key."""
        ...


@dataclass(slots=True)
class _Word:
    """A line that first words have named, read `tries` times so far."""

    found: list[tuple[Box, Entry]]
    rank: int
    tries: int = 0
    again: int = 0  # not before, unix seconds


class Reader:
    """Looks into the boxes that hold something for one node."""

    def __init__(
        self, holders: Holders, identity: Identity, network: Network, clock: Clock
    ) -> None:
        self._holders = holders
        self._identity = identity
        self._network = network
        self._clock = clock
        self._limit = trio.CapacityLimiter(LOOKUPS)
        self._swept: dict[Line | None, int] = {}  # last reading of all days; None: the words
        self._words: dict[Line, _Word] = {}

    async def records(self, key: bytes) -> Sequence[Record] | None:
        """Return a key's records, or None if the lookup failed."""
        try:
            async with self._limit:
                return (await self._holders.get(KIND, key)).records
        except NodeError as error:
            log.info("a mailbox was not read: %s", error)
            return None

    def words(self, line: Line) -> tuple[tuple[Box, Entry], ...]:
        """Return the first words that were found of a line."""
        word = self._words.get(line)
        return tuple(word.found) if word else ()

    # -- lines

    async def lines(
        self, wanted: Iterable[Line], *, words: bool
    ) -> list[tuple[Line, list[tuple[Box, Entry, Part]]]]:
        """Return what lies in the boxes of these lines, and of those that words name."""
        found: dict[Line, list[tuple[Box, Entry, Part]]] = {line: [] for line in wanted}

        async def read(line: Line) -> None:
            days, full = self._days(line, line.since)
            found[line], whole = await self._read(line, days)
            if full and whole:
                self._swept[line] = self._clock.now()

        async def follow(line: Line) -> None:
            word = self._words[line]
            days = sorted({box.day for box, _ in word.found})
            found[line], whole = await self._read(line, days)
            if found[line] or whole:  # a failed lookup does not count
                word.again = self._clock.now() + min(WORD_RETRY_S << min(word.tries, 9), DAY)
                word.tries += 1

        told = [line for line in await self._told() if line not in found] if words else []
        async with trio.open_nursery() as nursery:
            for line in list(found):
                nursery.start_soon(read, line)
            for line in told:
                nursery.start_soon(follow, line)
        return list(found.items())

    def _days(self, line: Line | None, since: int) -> tuple[range, bool]:
        """Return the days to read, and whether they are all that can hold something."""
        now = self._clock.now()
        full = not 0 <= now - self._swept.get(line, now - SWEEP_S) < SWEEP_S
        first = letters.oldest_day(now) if full else now // DAY - 1
        return range(max(first, since // DAY - 1), letters.newest_day(now) + 1), full

    async def _read(
        self, line: Line, days: Iterable[int]
    ) -> tuple[list[tuple[Box, Entry, Part]], bool]:
        """Open what lies in these days' boxes; tell whether all of them could be read."""
        opened: list[tuple[Box, Entry, Part]] = []
        try:
            secret = letters.line_secret(
                self._identity, self._network, line.peer, line.trade_id, outgoing=False
            )
        except InvalidRecord as error:
            log.info("no mailbox of %s: %s", line.peer.hex()[:16], error)
            return [], True
        for day in days:
            for shelf in range(letters.SHELVES):
                if len(opened) >= MAX_OPENED:
                    return opened, False
                box = letters.closed_box(self._network, secret, day, shelf)
                records = await self.records(box.key)
                if records is None:
                    return opened, False
                opened += self._opened(box, records)
                if not records:
                    break  # a shelf is begun when the one before it is full
        return opened, True

    def _opened(self, box: Box, records: Sequence[Record]) -> list[tuple[Box, Entry, Part]]:
        found = []
        for record in records:
            try:
                entry = mailbox.parse(record.raw, self._network, self._clock.now())
                if not entry.deleted:
                    found.append((box, entry, letters.open_part(self._identity, box, entry)))
            except InvalidRecord as error:
                log.debug("an entry of a mailbox is skipped: %s", error)
        return found

    # -- first words

    async def _told(self) -> list[Line]:
        """Read our own open boxes; return the lines to follow: new ones, then by work."""
        days, full = self._days(None, 0)
        whole = True
        for day in days:
            records = await self.records(
                letters.word_key(self._network, self._identity.node_id, day)
            )
            whole = whole and records is not None
            if records is not None:
                self._take_words(day, records)
        now, oldest = self._clock.now(), letters.oldest_day(self._clock.now())
        if full and whole:
            self._swept[None] = now
        for line, word in list(self._words.items()):
            word.found = [one for one in word.found if one[0].day >= oldest]
            if not word.found:
                del self._words[line]
        ready = [line for line, word in self._words.items() if word.again <= now]
        ready.sort(key=lambda line: (self._words[line].tries, -self._words[line].rank))
        return ready[:WORDS_AT_ONCE]

    def _take_words(self, day: int, records: Sequence[Record]) -> None:
        """Keep what one day's words name; those that are gone are forgotten."""
        for word in self._words.values():
            word.found = [one for one in word.found if one[0].day != day]
        told: Counter[bytes] = Counter()
        for record in sorted(records, key=lambda r: -r.rank):
            try:
                entry = mailbox.parse(record.raw, self._network, self._clock.now())
                if entry.deleted:
                    continue
                sender, trade_id, box = letters.open_word(self._identity, self._network, day, entry)
            except InvalidRecord as error:
                log.debug("a first word is skipped: %s", error)
                continue
            told[sender] += 1
            if told[sender] <= WORDS_OF_ONE:
                word = self._words.setdefault(Line(sender, trade_id), _Word([], record.rank))
                word.found.append((box, entry))
                word.rank = max(word.rank, record.rank)
