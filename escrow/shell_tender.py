"""The tender of one trade: looks at the chain, lets time pass, does the duties; then waits.

Woken by each commit, by each change of the chain and by the clock. What fails because a
server or peer is away is tried again; what is refused is noted on the trade for its user.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import trio

from escrow import duties as trader_duties
from escrow import hearing, model
from escrow.contract import Contract
from escrow.facts import Facts
from escrow.funding import Funding, Owner, read_declared, respend, select_coins
from escrow.messages import Kind
from escrow.model import (
    Bump,
    CallArbiter,
    ChainView,
    ChooseCoins,
    CoinsChosen,
    CoinsMissing,
    CompleteVerdict,
    ContractReady,
    Duty,
    FundingSigned,
    MakeStatement,
    OpenDispute,
    Publish,
    ReleaseSigned,
    Respend,
    RespendReady,
    RuledCase,
    SettleSigned,
    ShowPapers,
    SignContract,
    SignFunding,
    SignRelease,
    SignSettle,
    SignVerdict,
    Spend,
    Tick,
    VerdictCompleted,
    VerdictSigned,
)
from escrow.payloads import ContractSigned, Inputs, Received, Settle, Verdict, Witness
from escrow.payout import Branch, Split, release
from escrow.script import escrow_script
from escrow.shell_bump import Bumps
from escrow.shell_trades import Trades
from escrow.store_journal import TRADER, Row
from p2pnode.base.errors import LocalFault, NodeError, Unreachable
from p2pnode.base.ports import Chain, Sighting
from p2pnode.base.transaction import Outpoint, parse_transaction

log: Final = logging.getLogger(__name__)

PATIENCE_S: Final = 2.0  # between two looks at a trade that nothing wakes


async def look(chain: Chain, contract: Contract, funding: Funding) -> ChainView:
    """Return everything that our chain says of one trade now."""
    tip = chain.tip()
    point = funding.escrow_outpoint
    seen = await _sightings(chain, escrow_script(contract))
    paid = next((s for s in seen if s.txid == point.txid), None)
    conflict = None
    if paid is None or not paid.height:
        conflict = await _conflict(chain, funding)
    return ChainView(
        tip=tip.height,
        mtp=tip.mtp,
        funding_height=paid.height if paid else None,
        funding_mtp=chain.mtp(paid.height) if paid and paid.height else 0,
        funding_raw=paid.raw if paid else b"",
        spend=_spender(seen, {point}, b""),
        conflict=conflict,
    )


async def _conflict(chain: Chain, funding: Funding) -> Spend | None:
    points = {i.outpoint for i in funding.tx.inputs}
    found = []
    for script in sorted({o.script for o in funding.prevouts}):
        if spend := _spender(await _sightings(chain, script), points, funding.tx.txid):
            found.append(spend)
    return min(found, key=lambda s: s.height or 1 << 40, default=None)  # the deepest


async def _sightings(chain: Chain, script: bytes) -> tuple[Sighting, ...]:
    await chain.watch(script)
    return await chain.sightings(script)


def _spender(seen: Iterable[Sighting], points: set[Outpoint], besides: bytes) -> Spend | None:
    """Return the spend of any of `points` other than `besides`; a confirmed one first."""
    spends = [
        Spend(s.txid, s.height, s.raw)
        for s in seen
        if s.txid != besides
        and points & {i.outpoint for i in parse_transaction("sighting", s.raw).inputs}
    ]
    return max(spends, key=lambda s: s.height > 0, default=None)


class Tender:
    """Keeps every living trade and case going."""

    def __init__(self, trades: Trades, stalled: Callable[[bytes, str], None]) -> None:
        self._trades = trades
        self._world = trades.world
        self._stalled = stalled
        self._bumps = Bumps(trades)

    async def tend(self, trade_id: bytes) -> None:
        """Run until the trade has ended."""
        while True:
            woken = self._trades.rest(trade_id)
            try:
                await self.round(trade_id)
            except Unreachable as error:
                log.info("trade %s waits: %s", trade_id.hex()[:16], error)
            except NodeError as error:
                self._stalled(trade_id, str(error))
            row = self._world.journal.row(trade_id)
            if row is None or self._trades.is_over(row):
                self._trades.retire(trade_id)
                return
            with trio.move_on_after(PATIENCE_S):
                await woken.wait()

    async def round(self, trade_id: bytes) -> None:
        """Look once at chain and clock, and do every duty that the state asks for."""
        await self.refresh(trade_id)
        self._trades.advance(trade_id, Tick())
        done: set[Duty] = set()
        fault: NodeError | None = None
        while True:
            row = self._trades.row(trade_id)
            todo = [d for d in self._duties(row) if d not in done]
            if not todo:
                break
            done.add(todo[0])
            try:
                await self._do(row, todo[0])
            except NodeError as error:  # what cannot be done holds up nothing behind it
                fault = fault or error
        if fault is not None:
            raise fault

    async def refresh(self, trade_id: bytes) -> None:
        """Bring our view of the chain up to date and let the machine hear it."""
        row = self._trades.row(trade_id)
        if self._trades.is_over(row):
            return
        if row.role == TRADER:
            facts = self._trades.facts(row)
            funding = facts.funding
            if funding is None:
                return
            contract = facts.contract
        else:
            case = self._trades.case(row)
            contract, funding = case.contract, case.funding
        self._trades.advance(trade_id, await look(self._world.chain, contract, funding))

    def _duties(self, row: Row) -> tuple[Duty, ...]:
        if self._trades.is_over(row):
            return ()
        if row.role != TRADER:
            return hearing.duties(row.state, self._trades.case(row))
        now = self._world.clock.now()
        return trader_duties.duties(row.state, self._trades.facts(row), now)

    # -- duties

    async def _do(self, row: Row, duty: Duty) -> None:
        trade_id = row.trade_id
        match duty:
            case Publish(raw, raised):
                await self._publish(raw, raised)
            case Bump(parent):
                await self._bumps.hurry(row, parent)
            case CallArbiter(to, why):
                log.info("trade %s: %s", trade_id.hex()[:16], why)
                facts = self._trades.facts(row)
                first = facts.contract.arbiter  # words are for people to say: theirs are repeated
                dispute = facts.dispute(facts.last_words(first) if to != first else "", to)
                self._trades.advance(trade_id, OpenDispute(dispute, to))
            case ShowPapers(to):
                papers = self._trades.facts(row).statement("", to)
                self._trades.advance(trade_id, MakeStatement(papers, to))
            case SignSettle():
                self._trades.advance(trade_id, SettleSigned(self._settle(row, duty)))
            case CompleteVerdict():
                self._trades.advance(trade_id, VerdictCompleted(*self._complete(row)))
            case SignVerdict():
                self._trades.advance(trade_id, VerdictSigned(self._verdict(row)))
            case SignContract():
                facts = self._trades.facts(row)
                signed = ContractSigned(
                    contract=facts.contract.wire(),
                    signature=self._trades.bench(row).sign_contract(facts.contract),
                )
                self._trades.advance(trade_id, ContractReady(signed))
            case ChooseCoins():
                await self._choose(row)
            case SignFunding():
                await self._sign_funding(row)
            case Respend():
                await self._respend(row)
            case SignRelease():
                facts = self._trades.facts(row)
                contract = facts.contract
                signatures = self._trades.bench(row).first_sign(
                    contract, facts.outpoint, self._committed(trade_id, release(contract))
                )
                self._trades.advance(trade_id, ReleaseSigned(Received(signatures=signatures)))

    def _committed(self, trade_id: bytes, wanted: Split) -> Split:
        """R1: sign nothing but the split whose row is committed."""
        split = self._world.journal.split(trade_id)
        if split != wanted:
            raise LocalFault("the split of this trade is not committed: nothing was signed")
        return split

    def _verdict(self, row: Row) -> Verdict:
        state, case = row.state, self._trades.case(row)
        assert isinstance(state, RuledCase)  # noqa: S101 - the duty follows from it
        wanted = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
        split = self._committed(row.trade_id, wanted)
        bench = self._trades.bench(row)
        signatures = bench.first_sign(case.contract, case.outpoint, split, case.branch)
        return Verdict(
            buyer_sat=split.buyer_sat,
            seller_sat=split.seller_sat,
            arbiter_sat=split.arbiter_sat,
            signatures=signatures,
            reason=state.reason,
        )

    def _settle(self, row: Row, duty: SignSettle) -> Settle:
        """Our first signatures on an agreed split, or on REFUND: the row is committed."""
        facts = self._trades.facts(row)
        split = self._committed(row.trade_id, Split(duty.buyer_sat, duty.seller_sat, 0))
        bench = self._trades.bench(row)
        signatures = bench.first_sign(facts.contract, facts.outpoint, split)
        return Settle(ok_id=duty.ok_id, signatures=signatures)

    async def _publish(self, raw: bytes, raised: bytes) -> None:
        """Broadcast; where the lower rate is refused by the network, the raised one at once."""
        try:
            await self._world.chain.broadcast(raw)
        except Unreachable:
            raise
        except NodeError as error:
            if not raised or raised == raw:
                raise
            log.info("the payout at the lower rate is refused: %s", error)
            await self._world.chain.broadcast(raised)

    async def _choose(self, row: Row) -> None:
        """Select and lock in one breath, so that nothing else spends what we declare."""
        world, trade_id = self._world, row.trade_id
        facts = self._trades.facts(row)
        if _side(facts) == "B" and not facts.contract.dep_b:  # a buyer who brings no coin
            empty = Inputs(inputs=(), change_script=b"")
            self._trades.advance(trade_id, CoinsChosen(empty))
            return
        world.locks.unlock(trade_id)  # of a choice that was cut short; nothing has left
        coins = await world.purse.spendable()
        if not isinstance(self._trades.row(trade_id).state, model.Funding):
            return  # it ended meanwhile: lock nothing for it
        try:
            size = facts.own.part.script  # of the same weight as the change script to come
            side = select_coins(facts.contract, _side(facts), coins, size)
            chosen = sorted(side.inputs, key=lambda c: c.outpoint.wire())
            world.locks.lock([c.outpoint for c in chosen], trade_id)
        except LocalFault as error:
            self._trades.advance(trade_id, CoinsMissing(str(error)))
            return
        declared = tuple([await world.purse.declared(c.outpoint) for c in chosen])
        change = world.journal.take_spare_script() or await world.purse.change_script()
        if not isinstance(self._trades.row(trade_id).state, model.Funding):
            with world.journal.database.transaction():  # it ended meanwhile, nothing has left
                world.journal.spare_script(change)
                world.locks.unlock(trade_id)
            return
        self._trades.advance(trade_id, CoinsChosen(Inputs(inputs=declared, change_script=change)))

    async def _sign_funding(self, row: Row) -> None:
        facts, bench = self._trades.facts(row), self._trades.bench(row)
        funding, side = facts.funding, _side(facts)
        assert funding is not None  # noqa: S101 - the duty follows from it
        sign = partial(self._world.purse.sign_psbt, only=funding.own(side))
        stacks = await trio.to_thread.run_sync(
            bench.sign_funding, facts.contract, funding, sign, side
        )
        final = b""
        if theirs := facts.one(facts.peer, Kind.WITNESS):
            given = Witness.from_wire(theirs.payload).stacks
            final = bench.assemble(funding, *((given, stacks) if side == "S" else (stacks, given)))
        self._trades.advance(row.trade_id, FundingSigned(Witness(stacks=stacks), final))

    async def _respend(self, row: Row) -> None:
        facts, bench = self._trades.facts(row), self._trades.bench(row)
        funding, mine = facts.funding, facts.one(facts.me, Kind.INPUTS)
        assert funding is not None and mine is not None  # noqa: S101, PT018 - we signed it
        coins = [read_declared(d) for d in Inputs.from_wire(mine.payload).inputs]
        home = facts.own.part.script  # the payout's address, which nothing else will use now
        fee = funding.fee_sat + await self._bumps.children_fee(funding)
        tx = respend(coins, home, funding_fee=fee, rate=facts.contract.rate)
        sign = partial(self._world.purse.sign_psbt, only=range(len(coins)))
        raw = await trio.to_thread.run_sync(bench.sign_respend, tx, coins, sign)
        self._trades.advance(row.trade_id, RespendReady(raw))

    def _complete(self, row: Row) -> tuple[bytes, bytes]:
        """Complete the verdict: it is within our facts, or our user has accepted it."""
        facts = self._trades.facts(row)
        contract = facts.contract
        backup, verdict = facts.ruling(of_runner_up=_of_runner_up(row.state))
        branch, key = (Branch.BACKUP, contract.key_a2) if backup else (Branch.MAIN, contract.key_a)
        split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
        return self._trades.bench(row).complete(
            contract, facts.outpoint, split, key, verdict.signatures, branch
        )


def _of_runner_up(state: model.State) -> bool | None:
    """Tell whose verdict a state takes; a node that has lost data takes the one there is."""
    return bool(state.backup) if isinstance(state, model.Ruled) else None


def _side(facts: Facts) -> Owner:
    return "B" if facts.me == facts.buyer else "S"
