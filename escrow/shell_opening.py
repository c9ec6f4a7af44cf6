"""How a trade begins: our TAKE of another's offer, and our answer to another's TAKE.

Whatever can fail (funds, arbiters, fee estimate, proof of work) is tried before the first
message is signed; what the maker's policy refuses gets a signed REFUSE naming field and value.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from escrow.anchor import Anchor
from escrow.arbiters import ArbiterRecord
from escrow.bond import is_proven
from escrow.contract import KIND_BACKUP, max_rate
from escrow.draw import (
    ANCHOR_DEPTH,
    ANCHOR_SLACK,
    commit,
    find_work,
    listing,
    root,
    shortlist,
    work_of,
)
from escrow.errors import NotYet
from escrow.facts import Own
from escrow.messages import ZERO, Message
from escrow.model import Aborted, Contracting, Drawing, Taking
from escrow.needs import Disclosure, Registry
from escrow.payloads import MAX_NOTE, Draw, Part, Refuse, Take
from escrow.rates import FEE_TARGET, chosen_rate
from escrow.shell_bargain import Bargains
from escrow.shell_broken import Draws
from escrow.shell_trades import Trades
from escrow.store_journal import TRADER
from escrow.store_roll import MAX_HOLDERS
from escrow.terms import Terms, deposit
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, Misconfigured, PeerFault, Unreachable
from p2pnode.base.units import fiat_for

FEE_MARGIN_WU: Final = 8 * 272 + 500  # weight that a side pays for at the most
REFRESH_S: Final = 30
KEPT_REFUSED: Final = 200  # TAKEs that we refused, to be read; older ones are forgotten
FORGET_BLOCKS: Final = 6  # beyond the slack, for a reorg: who sends one again finds no signature
MAX_OPENING: Final = 16  # trades that others begin here at a time


class Opening:
    """Begins trades in either role."""

    def __init__(
        self, trades: Trades, registry: Registry, bargains: Bargains, draws: Draws
    ) -> None:
        self._trades = trades
        self._bargains = bargains
        self._world = trades.world
        self._registry = registry
        self.draws = draws
        self.introduce: Callable[[bytes, bytes], Awaitable[None]] = _unknown
        self.look: Callable[[bytes, bytes], Awaitable[None]] = _unknown  # which shows him nothing
        self._refreshed = 0

    # -- what both roles need

    async def own_rate(self) -> int | None:
        """Return our fee estimate in sat/vB. Raises Unreachable, whatever the server did."""
        try:
            return await self._world.chain.fee_rate(FEE_TARGET)
        except PeerFault as error:  # the chain server's fault, not the trading peer's
            raise Unreachable(f"the chain server gives no estimate: {error}") from None

    async def _rate(self, escrow_sat: int) -> int:
        return chosen_rate(self._world.network, await self.own_rate(), max_rate(escrow_sat))

    async def refresh(self, *, force: bool = False) -> None:
        """Learn the arbiters that the DHT holds now; a bad record is skipped."""
        now = self._world.clock.now()
        if not force and now < self._refreshed + REFRESH_S:
            return
        found = []
        for raw in await self._registry.find():
            try:
                record = ArbiterRecord.from_wire(raw, self._world.network)
            except InvalidRecord:
                continue
            if self._is_shown(record):
                found.append(record)
        self._trades.learn(found)
        self._refreshed = now

    def _is_shown(self, record: ArbiterRecord) -> bool:
        """Tell an invented bond: else such records would push honest ones out of the roll."""
        try:
            return record.bond is None or is_proven(record.bond, self._world.chain)
        except (Unreachable, Misconfigured):  # who sees no chain draws nobody
            return False

    def _lists(self, anchor: Anchor) -> tuple[list[ArbiterRecord], str]:
        """Return the records that we would list, and why they are too few, if they are.

        Bonds below the amount are listed too: by their weight both judge the set's size.
        """
        wide = anchor.of_any_value()
        found = shortlist(wide.candidates(filter(wide.counts, self._trades.records.values())))
        return found, anchor.size_fault(found, self._trades.seen_weight())

    def _anchor(self, height: int, amount_sat: int, *traders: bytes) -> Anchor:
        world = self._world
        return Anchor(world.network, height, amount_sat, frozenset(traders), world.chain)

    async def _check_funds(self, need: int, rate: int) -> None:
        if not need:
            return  # a buyer without a deposit brings no coin
        have = sum(c.value for c in await self._world.purse.spendable())
        need += -(-rate * FEE_MARGIN_WU // 4)
        if have < need:
            raise LocalFault(
                f"not enough funds: {need} sat (deposit, amount, fee) are needed, "
                f"{have} sat are confirmed and free",
                field="amount_sat",
            )

    @asynccontextmanager
    async def _script(self) -> AsyncIterator[bytes]:
        """A script for a trade that begins now; where none begins, the next one gets it."""
        spare = self._world.journal.take_spare_script()
        script = spare or await self._world.purse.fresh_script()
        try:
            yield script
        except BaseException:
            with self._world.journal.database.transaction():
                self._world.journal.spare_script(script)
            raise

    def _part(self, trade_id: bytes, script: bytes, account: Disclosure, kind: str) -> Part:
        keys = self._world.keys
        return Part(
            escrow_key=keys.escrow_key(trade_id).public,
            backup_key=keys.backup_key(trade_id).public if kind == KIND_BACKUP else b"",
            script=script,
            account_hash=account.account_hash,
        )

    # -- the taker

    async def take(
        self,
        terms: Terms,
        amount_sat: int,
        account: Disclosure,
        *,
        escrow_kind: str = "",
        counter: bytes = ZERO,
        fiat_minor: int = 0,
        shows: bool = True,
    ) -> bytes:
        """Take an offer: sign and journal a TAKE. Returns the trade id. Raises LocalFault.

        Our receipts are shown to the maker first if he judges by them (`shows`).

        `escrow_kind` is one of the offer's, by default the one with a backup branch; `counter`
        is the maker's COUNTER and `fiat_minor` its sum.
        """
        world = self._world
        if terms.maker == world.me:
            raise LocalFault("this is your own offer", field="offer")
        if world.journal.roll.full():
            raise LocalFault(f"{MAX_HOLDERS} trades live here: end one first")
        wire.within("amount_sat", amount_sat, terms.min_sat, terms.max_sat)
        wire.within("amount_sat", amount_sat, world.network.min_amount_sat, terms.max_sat)
        await self.refresh(force=True)
        tip = world.chain.tip()
        anchor_h = tip.height - ANCHOR_DEPTH
        anchor_hash = world.chain.block_hash(anchor_h)
        if anchor_hash is None:
            raise LocalFault("the chain is too short for a draw: wait for more blocks")
        anchor = self._anchor(anchor_h, amount_sat, terms.maker, world.me)
        pool, why = self._lists(anchor)
        if why:
            raise LocalFault(f"no arbiter can be drawn: {why}", field="arbiters")
        kind = terms.kind(escrow_kind)
        dep_b, dep_s = (deposit(bp, amount_sat) for bp in (terms.dep_b_bp, terms.dep_s_bp))
        need = dep_b if terms.maker_is_seller else amount_sat + dep_s
        await self._check_funds(need, await self._rate(amount_sat + dep_b + dep_s))
        if shows:
            await self.introduce(terms.maker, terms.offer_hash)
        nonce, listed = world.randomness.bytes(32), listing(pool)
        draft = Take(
            offer_hash=terms.offer_hash,
            maker=terms.maker,
            counter=counter,
            amount_sat=amount_sat,
            fiat_minor=fiat_minor or fiat_for(amount_sat, terms.price),
            method=terms.method,
            escrow_kind=kind,
            anchor_h=anchor_h,
            anchor_hash=anchor_hash,
            work=0,
            root=root(world.network, listed),
            commitment=commit(world.network, nonce),
        )
        work = await trio.to_thread.run_sync(find_work, world.network, draft, world.me)
        draft = replace(draft, work=work)
        async with self._script() as script:
            await self.draws.leap()
            # Nothing below awaits: two draws of ours never state one number.
            take = self._trades.sign(ZERO, terms.maker, draft, ())
            part = self._part(take.id, script, account, kind)
            own = Own(nonce=nonce, listed=listed, part=part, disclosure=account.wire)
            return self._trades.begin(
                TRADER,
                Taking(world.clock.now()),
                [(take, True)],
                pool,
                also=partial(self._bargains.used, draft, take.id),
                terms=wire.pack(terms.array()),
                own=wire.pack(own.array()),
            )

    # -- the maker

    async def answer(self, message: Message, take: Take) -> None:
        """Answer a TAKE with DRAW, or REFUSE. Raises PeerFault, InvalidRecord for a bad one."""
        world = self._world
        if message.seq:
            raise PeerFault("seq: a TAKE begins its chain")
        if message.seen != ZERO:
            raise PeerFault("seen: names no message that we sent")
        if take.maker != world.me:
            raise PeerFault("maker: is not this node")
        work = wire.leading_zero_bits(work_of(world.network, take, message.sender, take.work))
        if work < world.network.take_bits:
            raise InvalidRecord("work", f"has {work} zero bits of {world.network.take_bits}")
        self._check_anchor(take)  # one that is too old may be forgotten: nothing is signed to it
        try:
            terms, agreed = self._open_to(take, message.sender)
            terms.check(take, agreed)
            await self.refresh()
            anchor = self._anchor(take.anchor_h, take.amount_sat, world.me, message.sender)
            pool, why = self._lists(anchor)
            if why:  # an arbiter may have come since we asked last
                await self.refresh(force=True)
                pool, why = self._lists(anchor)
            if why:
                raise LocalFault(why, field="arbiters")  # noqa: TRY301
            conditions = terms.conditions(take.amount_sat)
            dep_b, dep_s = conditions.dep_b, conditions.dep_s
            rate = await self._rate(take.amount_sat + dep_b + dep_s)
            need = take.amount_sat + dep_s if terms.maker_is_seller else dep_b
            await self._check_funds(need, rate)
            await self.draws.check(message)
            await self.draws.leap()
        except (InvalidRecord, LocalFault) as error:
            self._refuse(message, error)
            return
        account = world.desk.disclosure(take.offer_hash, take.method, world.randomness.bytes(32))
        async with self._script() as script:
            # Nothing below awaits: what was asked before may be true no more.
            if world.journal.known(message.id):  # the same TAKE came twice
                with world.journal.database.transaction():
                    world.journal.spare_script(script)
                return
            part = self._part(message.id, script, account, take.escrow_kind)
            terms, _ = self._open_to(take, message.sender)
            listed, nonce = listing(pool), world.randomness.bytes(32)
            draw = Draw(take_id=message.id, nonce=nonce, arbiters=listed, part=part, rate=rate)
            own = Own(nonce=nonce, listed=listed, part=part, disclosure=account.wire)
            signed = self._trades.sign(message.id, message.sender, draw, (message,))
            self._trades.begin(
                TRADER,
                Drawing(world.clock.now()),
                [(message, False), (signed, True)],
                pool,
                also=partial(self._bargains.used, take, message.id),
                terms=wire.pack(terms.array()),
                own=wire.pack(own.array()),
            )

    def _open_to(self, take: Take, taker: bytes) -> tuple[Terms, int | None]:
        """Return the terms of the offer taken, and the sum of the COUNTER that the TAKE names.

        Raises NotYet for no room, PeerFault for no offer or no such COUNTER, InvalidRecord for
        what the offer does not allow this taker.
        """
        journal = self._world.journal
        if journal.count(Drawing, Contracting) >= MAX_OPENING or journal.roll.full():
            raise NotYet("too many trades are beginning here at once")
        promised = self._bargains.promised(take, taker)
        stand_in = {"price": promised} if promised else {}
        terms = self._world.desk.terms(take.offer_hash, take.method, taker, **stand_in)
        if terms is None:
            raise PeerFault("offer_hash: is no current offer of this node")
        return terms, self._bargains.agreed(take, taker)

    def _check_anchor(self, take: Take) -> None:
        chain = self._world.chain
        if chain.block_hash(take.anchor_h) != take.anchor_hash:
            raise InvalidRecord("anchor_hash", "is not our chain's block of that height")
        ours = chain.tip().height - ANCHOR_DEPTH
        if abs(ours - take.anchor_h) > ANCHOR_SLACK:
            raise InvalidRecord("anchor_h", f"is not within {ANCHOR_SLACK} of {ours}")

    def _refuse(self, message: Message, error: InvalidRecord | LocalFault) -> None:
        """Say no. What we hold and could fund is not the taker's to know."""
        why = wire.clipped(str(error), MAX_NOTE)
        told = (
            "cannot be traded now"
            if error.field == "amount_sat" and not isinstance(error, InvalidRecord)
            else why.removeprefix(f"{error.field}: ")
        )
        refuse = Refuse(refused_id=message.id, field=error.field or "offer", value=told)
        if self._world.journal.known(message.id):
            return
        signed = self._trades.sign(message.id, message.sender, refuse, (message,))
        state = Aborted(f"we refused it: {why}")
        self._trades.begin(TRADER, state, [(message, False), (signed, True)])
        with self._world.journal.database.transaction():
            oldest = self._world.chain.tip().height - ANCHOR_DEPTH - ANCHOR_SLACK - FORGET_BLOCKS
            self._world.journal.forget_refused(KEPT_REFUSED, oldest)


async def _unknown(_maker: bytes, _offer_hash: bytes) -> None:
    """Show a maker nothing: what a node does that keeps no receipts."""
