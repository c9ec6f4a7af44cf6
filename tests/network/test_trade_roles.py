"""Everything said by everybody at every moment: only who may say it, and only in its place.

A trade and its dispute are played once to get a good payload of each kind. Then a second trade is
played, and before each of its messages both traders hear every kind from the peer, the arbiter
drawn, another arbiter and a stranger: replayed, early, late, or by the wrong mouth.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio
from trade_campaign import difference
from trade_kit import AMOUNT, Frame, Rig, rig

from escrow.messages import ZERO, Kind
from escrow.model import (
    Decide,
    Disputed,
    Hearing,
    Releasing,
    Ruled,
    SayReceived,
)
from escrow.payloads import (
    Abort,
    Ask,
    Chat,
    Counter,
    Cover,
    Enquiry,
    Evidence,
    Forward,
    NotPaid,
    Ok,
    Payload,
    Propose,
    Received,
    Recuse,
    Refuse,
    Settle,
    Withdraw,
)
from escrow.payout import release
from escrow.shell_inbox import APPLIED

K = Kind


@dataclass
class Matrix:
    """The hook: `templates` are payloads of the first trade; `accepted` what should not be."""

    rig: Rig
    templates: dict[Kind, bytes]
    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    told: set[tuple[Kind, str]] = field(default_factory=set)
    busy: trio.Lock = field(default_factory=trio.Lock)

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        place = (frame.kind, frame.sender)
        if frame.kind is not K.TAKE and place not in self.told:
            self.told.add(place)
            async with self.busy:
                for victim in ("maker", "taker"):
                    await self._all_to(victim, frame)
        return [frame.raw]

    async def _all_to(self, victim: str, frame: Frame) -> None:
        r, trade_id = self.rig, frame.message.trade
        if r[victim].state(trade_id) is None:
            return
        await r.quiet(victim, trade_id)
        speakers = ["maker", "taker", "stranger", "arbiter0"]
        if contract := r[victim].facts(trade_id).settled_contract:
            speakers += [r.post.names[contract.arbiter], r.post.names[contract.runner_up]]
        for speaker in speakers:
            for kind in Kind:  # arbiter0 is another than the one drawn, unless he is that one
                if speaker != victim and not self._may(frame, victim, speaker, kind):
                    await self._say(frame, victim, speaker, kind)

    def _may(self, frame: Frame, victim: str, speaker: str, kind: Kind) -> bool:
        """Tell whether it is right at this moment and would be heard (or ends the trade)."""
        facts = self.rig[victim].facts(frame.message.trade)
        peer = self.rig.post.names[facts.peer]
        if speaker == peer:
            if kind is K.CHAT or (kind is K.ASK and facts.funding is not None):
                return True  # words that move nothing
            buyer = facts.me == facts.seller
            return (
                (kind is K.GET and facts.settled_contract is None)
                or (kind is K.INPUTS and facts.settled_contract is not None)  # coins spent before
                or (kind is K.ABORT and not facts.one(facts.peer, K.WITNESS))
                or (kind in {K.PAID, K.NOT_PAID} and buyer and facts.one(facts.peer, K.ACK) is not None)
                or (kind is K.NOT_PAID and buyer and facts.one(facts.me, K.ACCOUNT) is not None)
            )  # fmt: skip
        drawn = facts.settled_contract
        if drawn is None or self.rig[speaker].id != drawn.arbiter:
            return False
        notice = kind is K.NOTICE and facts.one(facts.me, K.ACCOUNT) is not None
        return notice or (kind in {K.RECUSE, K.CHAT} and facts.noticed(drawn.arbiter))

    async def _say(self, frame: Frame, victim: str, speaker: str, kind: Kind) -> None:
        r, trade_id = self.rig, frame.message.trade
        payload = self.templates[kind]
        if kind is K.REFUSE:  # as good as can be: it names this TAKE
            payload = Refuse(refused_id=trade_id, field="amount_sat", value="1").wire()
            if speaker == "maker" and frame.kind is K.DRAW:
                return  # the one place where it is right
        message = r[speaker].next_message(trade_id, r[victim].id, kind, payload)
        before = r[victim].snapshot()
        status, text = await r.inject(speaker, victim, message.wire())
        changed = difference(before, r[victim].snapshot())
        self.tried += 1
        if status == APPLIED or changed or not text:
            what = f"{kind.name} by {speaker} to {victim} before {frame.kind.name}"
            self.accepted.append(f"{what}: {status} {text} {changed}")
            print(self.accepted[-1])  # the trade may hang because of it


async def templates(r: Rig) -> dict[Kind, bytes]:
    """Play a trade to its verdict and return a payload of each kind."""
    r["maker"].registry.hidden = {r.records[0]}
    r["taker"].registry.hidden = {r.records[1]}
    trade_id = await r.take()
    await r.paid(trade_id)
    await r.dispute("taker", trade_id)
    await r.both(trade_id, Disputed)
    await r.answer("maker", trade_id, "no")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Hearing)
    full = release(r["maker"].facts(trade_id).contract).buyer_sat
    await r.act(arbiter, trade_id, Decide(full, "paid"))
    await r.both(trade_id, Ruled)
    await r.closed(trade_id, "ruled")
    found = {f.kind: f.message.payload for f in r.post.seen}
    second = await r.take()
    await r.paid(second)
    await r.act("maker", second, SayReceived())
    await r.until("taker", second, Releasing)
    await r.closed(second, "released")
    found |= {f.kind: f.message.payload for f in r.post.seen if f.kind is K.RECEIVED}
    received = next(f for f in r.post.seen if f.kind is K.RECEIVED)
    signatures = Received.from_wire(received.message.payload).signatures
    contract, file = r["maker"].facts(second).contract, b"a photo"
    half = contract.escrow_sat // 2
    spoken: tuple[Payload, ...] = (
        Forward(messages=(received.raw,)),
        Abort(reason="why not"),
        NotPaid(note="no"),
        Refuse(refused_id=received.message.id, field="ask", value="no"),
        Propose(offer_hash=bytes(32), amount_sat=AMOUNT, fiat_minor=1, method="CUSTOM"),
        Counter(propose_id=received.message.id, fiat_minor=1, expires_at=1),
        Ask(buyer_sat=half, seller_sat=contract.escrow_sat - half, note=""),
        Withdraw(ask_id=received.message.id),
        Ok(ask_id=received.message.id),
        Cover(covered_id=received.message.id),
        Settle(ok_id=ZERO, signatures=signatures),
        Chat(text="well?"),
        Evidence(
            file_hash=hashlib.sha256(file).digest(), name="x", size=len(file), part=0, data=file
        ),
        Recuse(reason="I know him"),
        Enquiry(dispute_id=received.message.id),
    )
    found |= {p.kind: p.wire() for p in spoken}
    assert set(found) == set(Kind)
    return found


async def test_nothing_is_heard_from_the_wrong_mouth_or_at_the_wrong_time() -> None:
    async with rig(arbiters=5, sats=(3_000_000, 3_000_000), strangers=("stranger",)) as r:
        matrix = Matrix(r, await templates(r))
        r.post.hook = matrix
        trade_id = await r.take()
        await r.paid(trade_id)
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)
        await r.closed(trade_id, "released")
        assert not matrix.accepted, "\n".join(matrix.accepted[:20])
        assert matrix.tried > 1000
        r.post.hook = None
        await in_a_dispute(r, matrix)


async def in_a_dispute(r: Rig, matrix: Matrix) -> None:
    before = matrix.tried
    trade_id = await r.take()
    await r.funded(trade_id)
    await r.dispute("taker", trade_id, "I want out")
    await r.both(trade_id, Disputed)
    r.post.hook = matrix
    await r.answer("maker", trade_id, "so be it")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Hearing)
    contract = r["maker"].facts(trade_id).contract
    r.mine(10 + 6, step=86_400)  # past R4's time, by the chain's median
    await r.act(arbiter, trade_id, Decide(contract.dep_b, "nothing was paid"))
    await r.both(trade_id, Ruled)
    await r.closed(trade_id, "ruled")
    assert not matrix.accepted, "\n".join(matrix.accepted[:20])
    assert matrix.tried > before + 250
