"""What the mailbox's tests share: peers with a journal, holders in memory, a crash anywhere."""

import hashlib
import os
from contextlib import contextmanager
from dataclasses import replace

from dht import letters, mailbox
from dht.letters import Line
from dht.mailbox import BOUNDS, DAY, KIND, OPEN, SEAL_BYTES, STEPS, Work
from dht.records import Kinds, merge
from dht.shell_mailbox import Mailbox
from p2pnode.base.errors import Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.networks import network
from p2pnode.base.store import Database

NETWORK = network("sandbox")
NOW = 1_800_000_000
TODAY = NOW // DAY
TRADE = bytes(range(32))


def identity(name):
    return Identity.grind(NETWORK, name.encode())


ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")


def kinds():
    found = Kinds()
    found.register(KIND, mailbox.validator(NETWORK), BOUNDS)
    return found


class Clock:
    def __init__(self, now=NOW):
        self.seconds = now

    def now(self):
        return self.seconds


class Crash(BaseException):
    """The process dies here."""


class Steps:
    """Counts what can be interrupted, and interrupts the step that was ordered."""

    def __init__(self):
        self.taken, self.crash_at, self.fired = 0, None, False

    def step(self):
        self.taken += 1
        if self.taken == self.crash_at:
            self.fired = True
            raise Crash


class CrashingDatabase(Database):
    """Dies before a statement, before or after a commit, as ordered."""

    def __init__(self, steps):
        self.steps = None
        super().__init__(None)
        self.steps = steps

    def run(self, sql, *args):
        if self.steps:
            self.steps.step()
        return super().run(sql, *args)

    @contextmanager
    def transaction(self):
        with super().transaction():
            yield
            if self.steps:
                self.steps.step()
        if self.steps:
            self.steps.step()


class Found:
    def __init__(self, records):
        self.records = records


class Stored:
    def __init__(self, acked):
        self.acked = acked


class Net:
    """The holders: a perfect DHT that believes what the kind's validator believes."""

    def __init__(self, clock, per_key=BOUNDS.per_key):
        self.kinds, self.clock, self.per_key = kinds(), clock, per_key
        self.held, self.down = {}, False
        self.puts, self.gets = [], []

    async def put(self, kind, raw):
        if self.down:
            raise Unreachable("nobody answers")
        record = self.kinds.accept(kind, raw, self.clock.now())
        self.puts.append(record)
        joined = merge(self.held.get(record.key, ()), [record], per_key=self.per_key)
        self.held[record.key] = joined
        return Stored(3 if record in joined else 0)

    async def get(self, kind, key):
        if self.down:
            raise Unreachable("nobody answers")
        self.gets.append(key)
        now = self.clock.now()
        return Found(tuple(r for r in self.held.get(key, ()) if r.expires_at > now))

    def entries(self):
        """Everything held, parsed, in no order that means anything."""
        now = self.clock.now()
        return [
            mailbox.parse(r.raw, NETWORK, now)
            for records in self.held.values()
            for r in records
            if r.expires_at > now
        ]

    def live(self):
        return [entry for entry in self.entries() if not entry.deleted]


class Port:
    """One peer's way to the holders, where he can die before and after."""

    def __init__(self, net, steps):
        self.net, self.steps = net, steps

    async def put(self, kind, raw):
        self.steps.step()
        stored = await self.net.put(kind, raw)
        self.steps.step()
        return stored

    async def get(self, kind, key):
        self.steps.step()
        found = await self.net.get(kind, key)
        self.steps.step()
        return found


class Node:
    """A peer: his mailbox and a journal that applies a letter once, in one database."""

    def __init__(self, who, net, clock=None, steps=None):
        self.who, self.net, self.clock = who, net, clock or net.clock
        self.steps = steps or Steps()
        self.db = CrashingDatabase(self.steps)
        self.db.migrate(
            "test", ["CREATE TABLE got (trade_id BLOB, number INTEGER, payload BLOB UNIQUE)"]
        )
        self.start()

    def start(self):
        """Start, or start again after a death: memory is lost, the database is not."""
        self.box = Mailbox(Port(self.net, self.steps), self.who, NETWORK, self.clock, self.db)

    async def take(self, *lines, words=False):
        """Collect and apply; the journal's UNIQUE says that nothing is applied twice."""
        found = await self.box.collect(lines, words=words)
        for letter in found:
            with self.db.transaction():
                self.db.run(
                    "INSERT INTO got VALUES (?, ?, ?)",
                    *(letter.line.trade_id, letter.number, letter.payload),
                )
                self.box.applied(letter)
        return found

    def got(self):
        return [bytes(r["payload"]) for r in self.db.all("SELECT payload FROM got ORDER BY rowid")]


def to(peer, trade_id=TRADE, since=0):
    return Line(peer.node_id, trade_id, since)


def worked(entry, bits=None, start=0):
    """The entry with its work done."""
    nonce = Work(NETWORK, entry).search(bits or NETWORK.mailbox_bits, start, 1 << 30)
    return replace(entry, nonce=nonce)


def secret(sender=ALICE, recipient=BOB, trade_id=TRADE):
    return letters.line_secret(sender, NETWORK, recipient.node_id, trade_id, outgoing=True)


def closed(sender=ALICE, recipient=BOB, trade_id=TRADE, day=TODAY, shelf=0):
    return letters.closed_box(NETWORK, secret(sender, recipient, trade_id), day, shelf)


def sealed_part(box, recipient=BOB, number=0, payload=b"hello", *, slot=0):
    part = letters.Part(number, 0, 1, hashlib.sha256(payload).digest(), payload)
    return letters.seal_part(box, recipient.node_id, slot, part)


def entry_of(box, recipient=BOB, number=0, payload=b"hello", *, slot=0):
    return worked(box.entry(slot, sealed_part(box, recipient, number, payload, slot=slot)))


def flood(count, bits=None, day=TODAY, recipient=BOB, salt=b""):
    """Entries of as many throwaway keys in a node's open box; they open for nobody."""
    name = letters.word_name(NETWORK, recipient.node_id, day)
    for index in range(count):
        signer = Identity(hashlib.sha256(b"mallory %d" % index + salt).digest())
        box = letters.Box(NETWORK, OPEN, name, day, signer)
        yield box.sign(worked(box.entry(0, os.urandom(STEPS[0] + SEAL_BYTES)), bits))
