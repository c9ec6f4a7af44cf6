"""The arbiter's side of the inbox: a dispute opens a case, traders speak in it.

Everything is checked before a human looks: contract, draw, message chains, first signatures.
A paper that does not hold is refused with the field; nothing here signs a payout.
"""

from collections.abc import Iterable
from typing import Final

from escrow import accord, evidence
from escrow.backend_bench import TradeBench
from escrow.case import Case
from escrow.errors import NotYet
from escrow.examine import check_seen
from escrow.hearing import open_case
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.model import LoseTrust, Received
from escrow.payloads import MAX_TRANSCRIPT, Evidence, Payload, Settle
from escrow.payloads import Received as Release
from escrow.payout import Split, refund, release
from escrow.shell_equivocation import Lookout
from escrow.shell_tender import look
from escrow.shell_trades import Trades
from escrow.store_journal import ARBITER, Row
from escrow.transcript import case_papers, check_dispute, papers_of, shown_rulings
from p2pnode.base.errors import InvalidRecord, NotFound, PeerFault

_FROM_TRADERS: Final = frozenset({Kind.STATEMENT, Kind.DISPUTE, Kind.CHAT, Kind.EVIDENCE})


class Cases:
    """Opens cases and hears the parties."""

    def __init__(self, trades: Trades, lookout: Lookout) -> None:
        self._trades = trades
        self._lookout = lookout
        self._world = trades.world

    async def open(self, message: Message) -> None:
        """Open a case for an escrow that is on our chain: else two strangers could make many."""
        world = self._world
        tip = world.chain.tip().height
        if message.tip_height > tip:
            raise NotYet(f"tip_height: {message.tip_height} is above our chain's {tip}")
        contract, papers = check_dispute(message, world.me, world.chain)
        second = world.me == contract.runner_up
        bond, named = (
            (contract.bond_a2, contract.key_a2) if second else (contract.bond_a, contract.key_a)
        )
        key = world.keys.arbiter_key(contract.seed, bond)
        if key.public != named:
            raise InvalidRecord("key_a", "is not this arbiter's key of that draw")
        if message.seq % FRESH_STEP or message.prev != ZERO:
            raise NotYet(f"seq: {message.seq} came before 0")
        shown = shown_rulings((message,), contract)
        case = Case(
            network=world.network,
            me=world.me,
            contract=contract,
            messages=(message,),
            papers=papers,
            shown=shown,
        )
        check_signatures(case, papers, TradeBench(key, world.opinions))
        try:
            await world.chain.transaction(case.outpoint.txid)
        except NotFound:
            raise NotYet("messages: their funding is not on our chain") from None
        view = await look(world.chain, contract, case.funding)
        if second and not (view.funding_height and view.tip >= view.funding_height + contract.n):
            raise NotYet("the runner-up hears a case from the timelock's end on")
        if world.journal.row(message.trade) is not None:
            raise NotYet("trade_id: its case was opened meanwhile")
        born = (view.funding_height or tip) + (contract.n if second else 0)
        lost = self._lost(shown) or born <= world.journal.lost_at()
        state, sends = open_case(case, message, world.chain.tip().mtp, lost=lost)
        said = [message]
        for send in sends:  # NOTICE and FORWARD to one trader are two numbers of one chain
            said.append(self._trades.sign(contract.trade_id, send.to, send.payload, said))
        pairs = [(m, m is not message) for m in said]
        told = (*papers, *shown)
        self._trades.begin(ARBITER, state, pairs, also=lambda: self._lookout.keep(told))

    def _lost(self, shown: Iterable[Message]) -> bool:
        """Tell whether a trader shows a message of ours that we do not have: we lost data."""
        world = self._world
        ours = (m for m in shown if m.sender == world.me)
        if all(world.journal.known(m.id) for m in ours):
            return False
        with world.journal.database.transaction():
            world.journal.mark_lost(world.chain.tip().height)
        return True

    def hear(self, message: Message, payload: Payload, row: Row) -> None:
        """Hear a party of a case, or the other arbiter. Raises PeerFault, InvalidRecord."""
        case = self._trades.case(row)
        contract = case.contract
        others = {contract.arbiter, contract.runner_up} - {case.me}
        if message.sender in others and message.kind in {Kind.ENQUIRY, Kind.FORWARD}:
            self._from_arbiter(message, case)
            self._lookout.shown((*case.shown, *case.messages, message))
            check_seen(message, case.messages, case.me)
            self._trades.advance(row.trade_id, Received(message, payload))
            return
        if message.sender not in case.traders:
            raise PeerFault("sender: is no party of this case")
        if message.kind not in _FROM_TRADERS:
            raise PeerFault(f"{message.kind.name} has no place in a case")
        if isinstance(payload, Evidence):
            evidence.check_part(
                evidence.head(payload), evidence.heads(case.messages, message.sender)
            )
        shown: tuple[Message, ...] = ()
        if message.kind in {Kind.STATEMENT, Kind.DISPUTE}:  # the others carry no papers
            shown = self._papers(message, case, self._trades.bench(row))
        if self._lost(shown):
            self._trades.advance(row.trade_id, LoseTrust("a trader shows a message of ours"))
        else:
            check_seen(message, case.messages, case.me)  # else let him show it: shell_inbox
        self._trades.advance(row.trade_id, Received(message, payload))

    def _papers(self, message: Message, case: Case, bench: TradeBench) -> tuple[Message, ...]:
        """Check the papers that a message adds; returns what of arbiters' it shows."""
        united, papers = case_papers((*case.messages, message))
        if united.wire() != case.contract.wire():
            raise InvalidRecord("contract", "is not this case's")
        own = sum(m.sender == message.sender for m in papers)
        if own > MAX_TRANSCRIPT:  # forks of his own chain; what the other shows is not counted
            raise PeerFault(f"messages: over {MAX_TRANSCRIPT} of their sender's own were shown")
        traders = (case.contract.maker, case.contract.taker)
        alone = papers_of(message, traders, case.contract.trade_id)
        check_signatures(case, alone, bench)  # what others showed puts nobody's own papers out
        shown = shown_rulings((message,), case.contract)
        self._lookout.shown((*papers, *case.shown, *shown, *case.messages))
        return shown

    def _from_arbiter(self, message: Message, case: Case) -> None:
        forward = message.kind is Kind.FORWARD
        if forward and message.sender != case.contract.arbiter:
            raise PeerFault("FORWARD is the arbiter's to say")
        if not forward and message.sender != case.contract.runner_up:
            raise PeerFault("ENQUIRY is the runner-up's to say")
        view, n = case.view, case.contract.n
        if not forward and not (
            view and view.funding_height and view.tip >= view.funding_height + n
        ):
            raise NotYet("ENQUIRY before the timelock's end")


def check_signatures(case: Case, papers: Iterable[Message], bench: TradeBench) -> None:
    """Check every first signature among the papers: a bad one is no paper. Raises PeerFault."""
    contract, point = case.contract, case.outpoint  # both INPUTS are there and make a funding
    found = tuple(papers)
    bound = {
        asked.ok.id: Split(asked.buyer_sat, asked.seller_sat, 0)
        for one, two in (case.traders, case.traders[::-1])
        for asked in accord.asks(found, one, two)
        if asked.ok is not None
    }
    for paper in found:
        key = contract.key_b if paper.sender == contract.buyer else contract.key_s
        if paper.kind is Kind.RECEIVED:
            signatures = Release.from_wire(paper.payload).signatures
            bench.check_first(contract, point, release(contract), contract.key_s, signatures)
        elif paper.kind is Kind.SETTLE:
            settle = Settle.from_wire(paper.payload)
            alone = settle.ok_id == ZERO and paper.sender == contract.buyer
            split = refund(contract) if alone else bound.get(settle.ok_id)
            if split is None:  # who shows it has the OK too, and the ASK that it answers
                raise PeerFault("messages: hold a SETTLE whose OK binds nothing among them")
            bench.check_first(contract, point, split, key, settle.signatures)
