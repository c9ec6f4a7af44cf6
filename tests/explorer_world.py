"""The world of the explorer: nodes, their post, the chain and its time, as one frozen state.

Honest nodes are the real machines (`explorer_nodes`). Between two of them messages wait in
order, for any time; to and from a malicious party they pass at once, because whoever may lie may
also wait. A spend that was broadcast may confirm in any block or in none, whatever else is
broadcast: a low fee, pinning and miners who see different things are in it from the start.
Chain time moves in steps (`Family.ticks`); each deadline of the rules lies between two of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from explorer_cases import Arbiter
from explorer_nodes import REFUSED, Local, Mind, Numbered, Trader
from explorer_words import (
    BLOCK_S,
    FINAL,
    FUNDED,
    IDS,
    MTP,
    ROLE_OF,
    ROLES,
    WORDS,
    Beginning,
    Bench,
    say,
)

from escrow.contract import KIND_BACKUP
from escrow.messages import Kind, Message
from escrow.model import CallArbiter, ChainView, ShowPapers, Spend
from escrow.payloads import Account, Ack, Payload, Settle, Verdict
from escrow.payout import Split, refund, release
from p2pnode.base.transaction import parse_transaction

GONE: Final = -2  # an honest node that is away for ever
FOE: Final = -1  # a malicious party has no node: what he does is the explorer's choice
LATER: Final = (ShowPapers, CallArbiter)  # a node may be late with these
SIGNING: Final = frozenset({Kind.RECEIVED, Kind.SETTLE, Kind.VERDICT})


class State(NamedTuple):
    """Everything that is true; what each party remembers lies in its node's number."""

    tick: int = 0
    fiat: int = 0  # the money has really been sent
    nodes: tuple[int, ...] = ()  # by ROLES
    post: tuple[tuple[int, ...], ...] = ()  # by pair: messages on their way
    told: tuple[int, ...] = ()  # what malicious parties have received
    spends: tuple[int, ...] = ()  # broadcast, in that order
    mined: int = -1  # the spend that is in a block
    faults: int = 0
    signed: tuple[tuple[int, Split], ...] = ()  # (role, split) that honest keys first-signed
    pact: tuple[tuple[int, Split], ...] = ()  # (role, split) agreed to before a loss of data
    lies: int = 0


@dataclass(frozen=True)
class Family:
    """What is explored in one search: who lies, what may go wrong, what people may say."""

    name: str
    foes: frozenset[str] = frozenset()
    faults: int = 0
    kinds: tuple[str, ...] = ("lost", "lost arbiter", "gone", "reorg")  # of faults
    asks: tuple[str, ...] = ()  # refund, half
    askers: str = "BS"
    ticks: tuple[int, ...] = ()  # heights above the funding's
    until: int = 0  # the last of them at which people begin something; then all waits run out
    kind: str = KIND_BACKUP
    lies: int = 1  # papers that malicious traders may show
    late: bool = False  # a node may be late with papers, and with calling an arbiter by itself
    slow: tuple[str, ...] = ("B-S", "S-B", "A-B", "A-S")  # ways on which messages wait
    releases: bool = True  # a lying seller may sign the release
    without: str = ""  # an honest arbiter who is gone from the beginning
    mistaken: bool = False  # an honest arbiter rules anything that the rules leave him
    refuses: bool = True  # an honest buyer may say that he will not pay
    replies: bool = False  # honest traders answer in a dispute before reply_s is over


class Scene:
    """Nodes, post and chain of one family; what anyone does is `explorer_acts`."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.begun = Beginning(family.kind)
        self.contract = contract = self.begun.contract
        self.bench, self.views, self.payouts = Bench(contract), Numbered(), Numbered()
        kinds: dict[str, type[Mind]] = {"B": Trader, "S": Trader, "A": Arbiter, "A2": Arbiter}
        self.minds = tuple(kinds[r](r, self.begun, self.bench, self.views) for r in ROLES)
        self.honest = tuple(r not in family.foes for r in ROLES)
        self.pairs = tuple(
            (a, b)
            for a in range(4)
            for b in range(4)
            if a != b and self.honest[a] and self.honest[b]
        )
        ways = (way.split("-") for way in family.slow)
        self.slow = {(ROLES.index(a), ROLES.index(b)) for a, b in ways}
        self.pair_of = {pair: n for n, pair in enumerate(self.pairs)}
        escrow = contract.escrow_sat
        self.half = Split(escrow // 2, escrow - escrow // 2, 0)
        self.splits = {"refund": refund(contract), "half": self.half, "release": release(contract)}
        self._view: dict[tuple[int, int, int], int] = {}
        self._queue_moves: dict[Any, Any] = {}
        self.refused: dict[str, int] = {}  # an honest node refused an honest peer, for good

    # -- the chain

    def view(self, state: State) -> int:
        """Return the number of what every honest chain says in this state."""
        seen = state.mined if state.mined >= 0 else state.spends[-1] if state.spends else -1
        key = (state.tick, seen, state.mined)
        number = self._view.get(key)
        if number is None:
            number = self._view[key] = self.views.of(self._look(*key))
        return number

    def _look(self, tick: int, seen: int, mined: int) -> ChainView:
        tip = FUNDED + self.family.ticks[tick]
        spend = None
        if seen >= 0:
            raw = self.payouts.things[seen]
            txid = parse_transaction("spend", raw).txid
            spend = Spend(txid, tip if mined >= 0 else 0, raw)
        mtp = MTP + BLOCK_S * (tip - FUNDED)
        return ChainView(tip, mtp, FUNDED, MTP, FINAL, spend)

    def paid(self, number: int) -> tuple[int, Split]:
        """Return branch and split of a spend."""
        branch, split, _ = self.bench.made[self.payouts.things[number]]
        return branch, split

    def broadcast(self, state: State, raw: bytes) -> State:
        """Let the network know a spend; both rates of a split are one (see `explorer_fees`)."""
        branch, split, _ = self.bench.made[raw]
        number = self.payouts.of(self.bench.payouts(split, branch)[0])
        if number in state.spends:
            return state
        return self.look(state._replace(spends=(*state.spends, number)))

    def minable(self, state: State, number: int) -> bool:
        """Tell whether a spend may be in the next block: the backup branch is locked by n."""
        branch, _ = self.paid(number)
        return not branch or self.family.ticks[state.tick] >= self.contract.n

    # -- the nodes

    def look(self, state: State) -> State:
        """Let every honest node look at the chain."""
        view = self.view(state)
        for role in (3, 2, 1, 0):  # arbiters first: traders may call them at once
            number = state.nodes[role]
            if number >= 0 and self.minds[role].locals.things[number].view != view:
                answer = self.minds[role].answer(number, ("look", view))
                assert answer is not None, "a look at the chain is never refused"
                state = self.settle(state, role, answer)
                if self.view(state) != view:  # he has published: all look again
                    return self.look(state)
        return state

    def settle(self, state: State, role: int, answer: Any) -> State:
        """Return the state after a node's answer: what it said is on its way."""
        nodes = list(state.nodes)
        nodes[role] = answer.after
        post, told, signed, quick = list(state.post), state.told, state.signed, False
        for number in answer.said:
            message = WORDS.words[number]
            to = ROLES.index(ROLE_OF[message.recipient])
            if not self.honest[to]:
                told = tuple(sorted({*told, number}))
            elif state.nodes[to] != GONE:
                post[self.pair_of[role, to]] += (number,)
                quick |= (role, to) not in self.slow
            if message.kind in SIGNING:
                made = (role, self.first_signed(message, state))
                signed = signed if made in signed else tuple(sorted({*signed, made}, key=repr))
        after = state._replace(nodes=tuple(nodes), post=tuple(post), told=told, signed=signed)
        if quick:
            after = self._carry(after, role)
        return self.act(after, role)

    def _carry(self, state: State, role: int) -> State:
        """Deliver what goes to an arbiter: to be late on the way is to be late before it."""
        for place, pair in enumerate(self.pairs):
            if pair[0] != role or pair in self.slow:
                continue
            while queue := state.post[place]:
                answer = self.minds[pair[1]].answer(state.nodes[pair[1]], ("hear", queue[0]))
                if answer is None:
                    break
                post = list(state.post)
                post[place] = queue[1:]
                state = state._replace(post=tuple(post))
                if answer is REFUSED:
                    self.note_refusal(state, *pair, WORDS.words[queue[0]].kind)
                else:
                    state = self.settle(state, pair[1], answer)
        return state

    def note_refusal(self, state: State, sender: int, to: int, kind: Kind) -> None:
        """Count that an honest node refused an honest node's message for good."""
        said = type(self.local(state, to).state).__name__
        text = f"{kind.name} of {ROLES[sender]} by {ROLES[to]} in {said}"
        self.refused[text] = self.refused.get(text, 0) + 1

    def act(self, state: State, role: int) -> State:
        """Let a node do what its state asks for: to be late with it is to be late before it."""
        for duty in self.minds[role].duties(state.nodes[role]):
            if self.family.late and isinstance(duty, LATER):
                continue
            answer = self.minds[role].answer(state.nodes[role], ("duty", duty))
            if answer is None or answer is REFUSED:
                continue
            if not answer.published:
                return self.settle(state, role, answer)
            after = self.broadcast(state, answer.published)
            if after != state:
                return self.act(after, role)
        return state

    def first_signed(self, message: Message, state: State) -> Split:
        """Return the split that a message's signatures are on."""
        raw = message.payload
        if message.kind is Kind.RECEIVED:
            return self.splits["release"]
        if message.kind is Kind.VERDICT:
            said = Verdict.from_wire(raw)
            return Split(said.buyer_sat, said.seller_sat, said.arbiter_sat)
        signatures, key = Settle.from_wire(raw).signatures, self.contract.key_s
        if ROLE_OF[message.sender] == "B":
            key = self.contract.key_b
        for split in (self.splits["refund"], self.half):
            if self.bench.sign(key, split) == signatures:
                return split
        raise AssertionError("a SETTLE on a split that nobody asked for")

    def local(self, state: State, role: int) -> Local:
        found: Local = self.minds[role].locals.things[state.nodes[role]]
        return found

    def start(self) -> State:
        """Return the beginning: the funding is deep enough in every honest node's chain."""
        state = State(post=((),) * len(self.pairs))
        view = self.views.of(ChainView(FUNDED, MTP, FUNDED, MTP, FINAL))
        nodes = tuple(
            GONE if mind.role == self.family.without else mind.begin(view) if honest else FOE
            for mind, honest in zip(self.minds, self.honest, strict=True)
        )
        return self._greeted(self.look(state._replace(nodes=nodes)))

    def _greeted(self, state: State) -> State:
        """Let payment details be there where it is not the question whether they come in time.

        The buyer's and a lying buyer's ACK bind nobody; the seller's are the last that the buyer
        waits for before he pays.
        """
        if self.honest[0] and self.honest[1]:
            state = self._hear_first(state, (0, 1))
        elif self.honest[1]:
            state = self._told(state, 0, 1, Account(disclosure=b"details"))
            mine = list(known(self.local(state, 1).journal, Kind.ACCOUNT))
            account = next(m for m in mine if m.sender == IDS["S"])
            state = self._told(state, 0, 1, Ack(account_id=account.id))
        if self.family.asks and self.honest[0]:
            state = (
                self._hear_first(state, (1, 0))
                if self.honest[1]
                else self._told(state, 1, 0, Account(disclosure=b"details"))
            )
        return state

    def _hear_first(self, state: State, pair: tuple[int, int]) -> State:
        place = self.pair_of[pair]
        answer = self.minds[pair[1]].answer(state.nodes[pair[1]], ("hear", state.post[place][0]))
        post = tuple(q[1:] if n == place else q for n, q in enumerate(state.post))
        return self.settle(state._replace(post=post), pair[1], answer)

    def _told(self, state: State, role: int, to: int, payload: Payload) -> State:
        journal = self.local(state, to).journal
        number = say(self.begun.trade_id, ROLES[role], ROLES[to], payload, journal, FUNDED)
        answer = self.minds[to].answer(state.nodes[to], ("hear", number))
        return self.settle(state, to, answer)


def known(numbers: Iterable[int], *kinds: Kind) -> list[Message]:
    """Return the messages of these kinds among `numbers`."""
    return [m for m in (WORDS.words[n] for n in numbers) if m.kind in kinds]
