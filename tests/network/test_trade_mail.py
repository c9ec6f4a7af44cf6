"""Trades whose peers are never there together: by mail alone, both ways at once, and in faults.

Real mailboxes of the DHT over holders in memory; each fault says that it fired.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from mailbox_kit import Found, Net
from trade_kit import Frame, Rig
from trade_mail import NET, Away, Office, mail, mail_rig, said_once

from dht import letters, mailbox
from dht.letters import SHELVES
from dht.mailbox import SLOTS
from escrow import shell_mail
from escrow.messages import FRAME_LIMIT, Kind
from escrow.model import (
    Aborted,
    Cancel,
    Decide,
    Disputed,
    Funding,
    Hearing,
    Releasing,
    Ruled,
    SayPaid,
    SayReceived,
    Toxic,
)
from escrow.model import Paid as PaidState
from escrow.needs import Letter, Line
from escrow.payloads import Paid
from escrow.payout import release
from escrow.shell_inbox import USED, reply
from escrow.shell_mail import ABANDON_S, STREAM_ONLY, by_mail
from p2pnode.base.errors import LocalFault, StorageFault

K = Kind


def test_whatever_a_stream_carries_a_mailbox_carries() -> None:
    assert FRAME_LIMIT <= letters.MAX_PAYLOAD
    assert -(-FRAME_LIMIT // letters.CHUNK) <= SHELVES * SLOTS


def test_what_is_answered_at_once_goes_by_stream_alone() -> None:
    assert not any(by_mail(kind, 3) for kind in STREAM_ONLY)
    assert {K.TAKE, K.DRAW, K.REVEAL, K.GET, K.PAGE, K.CONTRACT} < STREAM_ONLY
    assert not by_mail(K.REFUSE, 0)  # of a TAKE
    assert by_mail(K.REFUSE, 5)  # of an ASK
    assert all(by_mail(kind, 1) for kind in set(K) - STREAM_ONLY)


async def in_funding(r: Rig, **offer: Any) -> bytes:
    trade_id = await r.take(r.offer(**offer))
    await r.both(trade_id, Funding)
    return trade_id


async def empty(r: Rig, name: str, peer: str) -> None:
    async def there() -> None:
        assert not r[name].journal.outbox(r[peer].id)

    await r.eventually(there)


def names(r: Rig, trade_id: bytes) -> tuple[str, str]:
    contract = r["maker"].facts(trade_id).contract
    return r.post.names[contract.buyer], r.post.names[contract.seller]


# ------------------------------------------------------------------ by mail alone


@pytest.mark.parametrize("maker_sells", [True, False], ids=["maker sells", "maker buys"])
async def test_a_whole_trade_by_mail_alone(maker_sells: bool) -> None:
    r: Rig
    async with mail_rig(hook=(away := Away())) as (r, office, _):
        trade_id = await r.take(r.offer(maker_sells=maker_sells))
        await r.paid(trade_id)
        buyer, seller = names(r, trade_id)
        await r.act(seller, trade_id, SayReceived())
        await r.until(buyer, trade_id, Releasing)
        await r.closed(trade_id, "released")
        assert len(away.lost) >= 4  # the fault fired
        said_once(r, trade_id)
        kinds = {K.INPUTS, K.WITNESS, K.ACCOUNT}
        assert by_letters(r, buyer, seller, trade_id) == kinds | {K.ACK, K.PAID}
        assert by_letters(r, seller, buyer, trade_id) == kinds | {K.RECEIVED}
        # RECEIVED covers PAID by its `seen`: nothing of the buyer's waits or lies there
        await empty(r, buyer, seller)
        live = [e for e in office.net.live() if e.name in boxes(r, buyer, seller, trade_id)]
        assert not live


def by_letters(r: Rig, sender: str, recipient: str, trade_id: bytes) -> set[Kind]:
    """The kinds of the messages of one to another that both have and no stream can have brought.

    Every letter to the recipient was applied, once each: their number is that of his messages.
    """
    there = r[recipient].journal.messages(trade_id)
    assert not mail(r, recipient).tally["letters_refused"]
    letters_in = [m for m in there if m.sender != r[recipient].id and m.kind not in STREAM_ONLY]
    assert mail(r, recipient).tally["letters_applied"] == len(letters_in)
    return {m.kind for m in letters_in if m.sender == r[sender].id}


def said_to(r: Rig, name: str, trade_id: bytes) -> set[Kind]:
    return {m.kind for m in r[name].journal.messages(trade_id) if m.sender != r[name].id}


def boxes(r: Rig, sender: str, recipient: str, trade_id: bytes) -> set[bytes]:
    """Names of the boxes in which one node's letters to another lie today."""
    line = letters.line_secret(r[sender].identity, NET, r[recipient].id, trade_id, outgoing=True)
    day = r.clock.now() // mailbox.DAY
    return {letters.closed_box(NET, line, day, shelf).name for shelf in range(SHELVES)}


async def test_a_dispute_by_mail_alone_finds_an_arbiter_who_knows_of_nothing() -> None:
    async with mail_rig() as (r, _, _resting):
        trade_id = await r.take()
        await r.paid(trade_id)
        before = {name: said_to(r, name, trade_id) for name in ("maker", "taker")}
        r.post.hook = away = Away()
        await r.dispute("taker", trade_id)
        arbiter = r.arbiter(trade_id)
        await r.both(trade_id, Disputed)
        await r.answer("maker", trade_id)
        await r.until(arbiter, trade_id, Hearing)
        full = release(r["maker"].facts(trade_id).contract).buyer_sat
        await r.act(arbiter, trade_id, Decide(full, "paid"))
        await r.both(trade_id, Ruled)
        await r.closed(trade_id, "ruled")
        assert away.kinds_lost() >= {K.DISPUTE, K.NOTICE, K.STATEMENT}
        for name in ("maker", "taker"):
            assert said_to(r, name, trade_id) - before[name] == {K.NOTICE, K.VERDICT}
            assert mail(r, name).tally["letters_applied"] == 2
        heard = [m for m in r[arbiter].journal.messages(trade_id) if m.sender != r[arbiter].id]
        assert {m.kind for m in heard} >= {K.DISPUTE, K.STATEMENT}
        assert mail(r, arbiter).tally["letters_applied"] == len(heard)
        said_once(r, trade_id)


async def test_an_abort_after_the_contract_goes_by_mail_and_one_before_it_does_not() -> None:
    async with mail_rig() as (r, office, resting):
        resting.update({"maker", "taker"})
        trade_id = await in_funding(r)
        r.post.hook = away = Away()
        await r.act("maker", trade_id, Cancel("no time today"))
        resting.clear()
        await r.until("taker", trade_id, Aborted)
        assert K.ABORT in away.kinds_lost()

        class Gone:
            async def __call__(self, frame: Frame) -> Sequence[bytes]:
                return [] if frame.sender == "maker" else [frame.raw]

        r.post.hook = Gone()
        second = await r.take()

        async def there() -> None:
            assert r["maker"].state(second) is not None

        await r.eventually(there)
        await r.act("maker", second, Cancel("not today either"))
        await r.until("maker", second, Aborted)
        assert not mail(r, "maker").post(r["taker"].id)
        put = {entry.name for entry in office.net.entries()}
        assert put & boxes(r, "maker", "taker", trade_id)
        assert not put & boxes(r, "maker", "taker", second)


# ------------------------------------------------------------------ both ways


class Both:
    """Every message is posted too; the frame goes before its letter is read, or after."""

    def __init__(self, r: Rig, resting: set[str], first: str) -> None:
        self._rig, self._resting, self._first = r, resting, first
        self.twice = 0

    def arm(self) -> None:
        for name in ("maker", "taker"):
            trades, node = self._rig[name].exchange.trades, self._rig[name]

            def both(peer: bytes, name: str = name) -> None:
                mail(self._rig, name).post(peer)
                self._rig[name].exchange._courier.poke(peer)

            trades.on_outbox = both
            assert node.box is not None

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        to = self._rig[frame.recipient]
        if frame.kind in STREAM_ONLY or frame.recipient not in {"maker", "taker"}:
            return [frame.raw]
        if self._first == "letter":
            with trio.fail_after(20):
                while not to.journal.known(frame.message.id):
                    if to.exchange._mail.tally["letters_not_yet"]:
                        break  # the chain lags: the frame would be told so too
                    await trio.sleep(0.002)
            self.twice += to.journal.known(frame.message.id)
        return [frame.raw]


async def test_letter_first_and_then_the_frame() -> None:
    async with mail_rig() as (r, _, resting):
        r.post.hook = both = Both(r, resting, "letter")
        both.arm()
        await whole_trade(r)
        assert both.twice >= 5


async def test_frame_first_and_then_the_letter() -> None:
    """Holders keep what was deleted, and the reader forgets what he read: all comes again."""
    async with mail_rig(Office(Forgetful)) as (r, office, resting):
        r.post.hook = both = Both(r, resting, "frame")
        both.arm()
        resting.update({"maker", "taker"})
        trade_id = await whole_trade(r)
        assert office.net.ignored >= 5
        before = {n: r[n].snapshot() for n in ("maker", "taker")}
        for name in ("maker", "taker"):  # as if the trade lived: else nobody would look
            node, peer = r[name], r["taker" if name == "maker" else "maker"]
            node.database.run("DELETE FROM mailbox_applied")
            found = await mail(r, name)._box.collect([Line(peer.id, trade_id)], words=False)
            kinds = {m.kind for m in peer.journal.messages(trade_id) if m.sender == peer.id}
            assert len(found) == len(kinds - STREAM_ONLY) >= 3
            for letter in found:
                assert await mail(r, name)._apply(letter) == 0
        assert {n: r[n].snapshot() for n in ("maker", "taker")} == before


class Forgetful(Net):
    """Lying holders: they take every deletion, say so, and keep the entry."""

    ignored = 0

    async def put(self, kind: str, raw: bytes) -> Any:
        record = self.kinds.accept(kind, raw, self.clock.now())
        if record.seq != mailbox.DELETED:
            return await super().put(kind, raw)
        self.ignored += 1
        return await super().put(kind, self.held[record.key][0].raw)


async def whole_trade(r: Rig) -> bytes:
    trade_id = await r.take()
    await r.paid(trade_id)
    buyer, seller = names(r, trade_id)
    await r.act(seller, trade_id, SayReceived())
    await r.until(buyer, trade_id, Releasing)
    await r.closed(trade_id, "released")
    said_once(r, trade_id)
    return trade_id


# ------------------------------------------------------------------ order, crashes, lies


class Withholding(Net):
    """Holders that keep some entries back for a while: letters come in another order."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.back: set[bytes] = set()
        self.withheld = 0

    async def get(self, kind: str, key: bytes) -> Any:
        found = await super().get(kind, key)
        shown = [r for r in found.records if r.raw not in self.back]
        self.withheld += len(found.records) - len(shown)
        return Found(shown)


async def test_letters_in_the_wrong_order_wait_for_their_turn() -> None:
    async with mail_rig(Office(Withholding), hook=(away := Away())) as (r, office, resting):
        trade_id = await r.take()
        await r.funded(trade_id)
        buyer, seller = names(r, trade_id)
        resting.add(seller)
        put: list[bytes] = []
        office.on_put = lambda name, raw: put.append(raw) if name == buyer else None
        await r.act(buyer, trade_id, SayPaid("sent"))

        async def posted() -> None:
            assert put

        await r.eventually(posted)
        office.net.back = set(put)
        paid, box = r[buyer].said(trade_id, K.PAID), r[buyer].box
        assert paid is not None
        assert box is not None
        later = r[buyer].next_message(
            trade_id, r[seller].id, K.PAID, paid.payload, seq=paid.seq + 1, prev=paid.id
        )
        box.post(letters.Line(r[seller].id, trade_id), later.seq, later.wire())
        await box.round()
        resting.clear()

        async def too_early() -> None:
            assert mail(r, seller).tally["letters_not_yet"]

        await r.eventually(too_early)
        assert office.net.withheld
        assert r[seller].heard(trade_id, K.PAID) is None
        office.net.back = set()
        await r.delivered(seller, trade_id, K.PAID)

        async def refused() -> None:  # PAID twice: its turn came, and it was judged
            assert mail(r, seller).tally["letters_refused"] == 1

        await r.eventually(refused)
        assert away.lost


@pytest.mark.parametrize("who", ["sender", "recipient"])
async def test_a_crash_after_each_letter_is_put(who: str) -> None:
    async with mail_rig(hook=(away := Away())) as (r, office, _):
        seen: set[bytes] = set()
        killed: list[str] = []
        lock = trio.Lock()

        async def restart(name: str) -> None:
            async with lock:
                await r.restart(name)

        def on_put(name: str, raw: bytes) -> None:
            entry = mailbox.parse(raw, NET, r.clock.now())
            if entry.digest in seen:
                return
            seen.add(entry.digest)
            victim = name if who == "sender" else {"maker": "taker", "taker": "maker"}[name]
            killed.append(victim)
            r.nursery.start_soon(restart, victim)

        office.on_put = on_put
        await whole_trade(r)
        assert len(killed) >= 8
        assert set(killed) == {"maker", "taker"}
        assert len(away.lost) >= 4


class Failing:
    """A disk that fails once for each letter, after it was applied and before that is noted."""

    def __init__(self, box: Any) -> None:
        self._box, self.failed = box, set[bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)

    def applied(self, letter: Letter) -> None:
        if letter.payload not in self.failed:
            self.failed.add(letter.payload)
            raise StorageFault("the disk is full")
        self._box.applied(letter)


async def test_a_letter_applied_and_not_noted_is_known_when_it_comes_again() -> None:
    async with mail_rig(hook=Away()) as (r, _, _resting):
        broken = []
        for name in ("maker", "taker"):
            mine = mail(r, name)
            mine._box = made = Failing(mine._box)  # type: ignore[assignment]
            broken.append(made)
        await whole_trade(r)
        assert all(len(made.failed) >= 3 for made in broken)


async def test_what_a_peer_puts_on_his_line_is_checked_like_what_he_sends() -> None:
    async with mail_rig() as (r, _, resting):
        trade_id = await r.take()
        await r.funded(trade_id)
        other = await r.take()
        await r.both(other, Funding)
        r.post.hook = away = Away()
        buyer, seller = names(r, trade_id)
        resting.update({buyer, seller})
        thief, victim = r[buyer], r[seller]
        assert thief.box is not None
        paid = thief.next_message(trade_id, victim.id, K.PAID, b"\x91\xa1x")
        take = thief.journal.messages(trade_id)[0]
        bad = [
            b"\x00" * 900,
            paid.wire()[:-1] + b"\xff",
            take.wire(),
            thief.next_message(other, victim.id, K.ABORT, b"\x91\xa1x").wire(),
            thief.next_message(trade_id, victim.id, K.VERDICT, paid.payload).wire(),
        ]
        for number, raw in enumerate(bad, 500):
            thief.box.post(letters.Line(victim.id, trade_id), number, raw)
        await thief.box.round()
        before = victim.snapshot()
        await mail(r, seller).collect()
        assert mail(r, seller).tally["letters_refused"] == len(bad)  # the faults fired
        assert victim.snapshot() == before
        await mail(r, seller).collect()
        assert mail(r, seller).tally["letters_refused"] == len(bad)  # and come no more
        resting.clear()
        await r.act(buyer, trade_id, SayPaid("sent"))
        await r.delivered(seller, trade_id, K.PAID)
        assert away.lost


async def test_a_full_line_keeps_no_other_waiting() -> None:
    """The thief fills all shelves of his line with what never applies; others are read."""
    async with mail_rig(hook=Away(), strangers=("thief",)) as (r, office, resting):
        trade_id = await r.take()
        await r.funded(trade_id)
        buyer, seller = names(r, trade_id)
        offer = r.offer(maker=seller)
        stolen = await r.take(offer, taker="thief")
        await r.until("thief", stolen, Funding)
        await r.until(seller, stolen, Funding)
        resting.add(seller)

        async def said() -> bytes:
            inputs = r["thief"].said(stolen, K.INPUTS)
            assert inputs is not None
            return inputs.payload

        payload = await r.eventually(said)
        thief = r["thief"]
        assert thief.box is not None
        early = thief.next_message(
            stolen, r[seller].id, K.INPUTS, payload, seq=50, prev=b"\x07" * 32
        )
        with pytest.raises(LocalFault, match="full for today"):  # the fault fires
            for number in range(200, 200 + SHELVES * SLOTS + 1):
                thief.box.post(letters.Line(r[seller].id, stolen), number, early.wire())
        with trio.fail_after(60):
            while thief.box.counts()["waiting"] and any(
                not row["acked"] for row in thief.database.all("SELECT acked FROM mailbox_out")
            ):
                await thief.box.round()
        await r.act(buyer, trade_id, SayPaid("sent"))

        async def posted() -> None:
            assert mail(r, buyer).post(r[seller].id)
            assert r[buyer].box is not None
            await r[buyer].box.round()

        await posted()
        asked = len(office.net.gets)
        mine = mail(r, seller)
        await mine.collect()
        assert r[seller].heard(trade_id, K.PAID)
        assert mine.tally["letters_not_yet"] == 1  # the first of 128; the others wait behind it
        assert len(office.net.gets) - asked < 100


# ------------------------------------------------------------------ what waits


async def test_a_full_day_leaves_it_to_the_stream_and_tells_the_user() -> None:
    async with mail_rig(hook=(away := Away())) as (r, _, _resting):
        trade_id = await r.take()
        await r.funded(trade_id)
        buyer, seller = names(r, trade_id)
        line = letters.Line(r[seller].id, trade_id)
        box = r[buyer].box
        assert box is not None
        with pytest.raises(LocalFault, match="full for today"):  # the fault fires
            for number in range(1000, 1000 + SHELVES * SLOTS + 1):
                box.post(line, number, b"x")
        await r.act(buyer, trade_id, SayPaid("sent"))
        await r.noted(buyer, trade_id, "full for today")
        assert not mail(r, buyer).post(r[seller].id)
        events = r[buyer].database.all("SELECT * FROM event WHERE kind = 'stalled'")
        r.clock.time += mailbox.DAY  # there is room again
        assert mail(r, buyer).post(r[seller].id)
        assert len(r[buyer].database.all("SELECT * FROM event WHERE kind = 'stalled'")) == len(
            events
        )
        await r.delivered(seller, trade_id, K.PAID)
        assert away.lost


async def test_what_waits_in_an_ended_trade_is_given_up_after_two_weeks() -> None:
    async with mail_rig(hook=Away()) as (r, office, resting):
        resting.add("taker")
        trade_id = await in_funding(r)
        await r.act("maker", trade_id, Cancel("no time today"))

        async def held() -> None:
            r.poke()
            assert boxes(r, "maker", "taker", trade_id) & {e.name for e in office.net.live()}

        await r.eventually(held)
        r.clock.time += ABANDON_S
        mail(r, "maker")._abandon()
        assert r["maker"].journal.outbox(r["taker"].id)
        r.clock.time += 2
        mail(r, "maker")._abandon()
        assert not r["maker"].journal.outbox(r["taker"].id)
        box = r["maker"].box
        assert box is not None
        await box.round()
        assert not office.net.live()


@pytest.mark.parametrize("proven", [True, False])
async def test_a_reply_that_our_number_was_used_needs_our_own_signature(*, proven: bool) -> None:
    async with mail_rig() as (r, _office, _):
        trade_id = await r.take()
        await r.funded(trade_id)
        buyer, seller = names(r, trade_id)
        inbox, fired = r[seller].exchange._courier._inbox, []
        journal = r[buyer].journal
        later = r[buyer].exchange.trades.sign(  # as a copy of ours, lost since, would have said it
            trade_id, r[seller].id, Paid(note="sent before"), journal.messages(trade_id)
        )
        ours = journal.messages(trade_id)[0] if r[buyer].id == r["taker"].id else None
        shown = later.wire() if proven else (ours.wire() if ours else b"rubbish")

        async def deliver(raw: bytes, peer: bytes) -> bytes:
            fired.append(raw)
            return reply(USED, "seq: another message of that number was applied before", shown)

        inbox.deliver = deliver  # type: ignore[method-assign]
        await r.act(buyer, trade_id, SayPaid("sent"))

        async def answered() -> None:
            assert fired
            assert not journal.outbox(r[seller].id)

        await r.eventually(answered)
        if proven:
            state = await r.until(buyer, trade_id, Toxic)
            assert isinstance(state, Toxic)
            assert "another message of ours" in state.why
        else:
            assert isinstance(r[buyer].exchange.trades.row(trade_id).state, PaidState)
            assert any("lost data: not so" in line for line in r.log)


async def test_a_peers_seen_is_a_receipt_and_a_deletion_is_none() -> None:
    async with mail_rig(hook=Away()) as (r, office, _resting):
        trade_id = await r.take()
        await r.funded(trade_id)
        buyer, seller = names(r, trade_id)
        await empty(r, seller, buyer)  # ACK has seen his ACCOUNT
        await r.act(buyer, trade_id, SayPaid("sent"))
        await r.delivered(seller, trade_id, K.PAID)
        name = boxes(r, buyer, seller, trade_id)

        async def deleted() -> None:
            assert not [e for e in office.net.live() if e.name in name]
            assert [e for e in office.net.entries() if e.name in name and e.deleted]

        await r.eventually(deleted)
        assert r[buyer].journal.outbox(r[seller].id)  # he has said nothing yet
        await r.act(seller, trade_id, SayReceived())
        await empty(r, buyer, seller)


async def test_our_user_looking_reads_the_mail_but_not_all_the_time() -> None:
    async with mail_rig() as (r, _, resting):
        resting.update(r.nodes)
        mine, read = mail(r, "maker"), []

        async def collect() -> None:
            read.append(1)

        mine.collect = collect  # type: ignore[method-assign]

        async def first() -> None:
            assert mine._looked_at > 0

        await r.eventually(first)
        for _ in range(5):
            r["maker"].exchange.look()
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert not read
        mine._looked_at -= shell_mail.LEAST_S
        r["maker"].exchange.look()

        async def again() -> None:
            assert read == [1]

        await r.eventually(again)
