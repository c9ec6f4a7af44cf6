"""What malicious parties may do: any message that their own keys can sign, to whom and when they like.

They know every message that an honest node sent to one of them, and the papers in it. Honest
nodes judge what they say by the real `examine` and the real machines; what these refuse is no
step. Two malicious parties share all they know, and spend what two keys can spend.
"""

from collections.abc import Iterator
from typing import Any

from explorer_nodes import REFUSED
from explorer_search import Step
from explorer_words import IDS, ROLES, WORDS, say
from explorer_world import State, known

from escrow.messages import ZERO, Kind, Message
from escrow.payloads import (
    Account,
    Ack,
    Ask,
    Cover,
    Dispute,
    Forward,
    Notice,
    NotPaid,
    Ok,
    Paid,
    Payload,
    Received,
    Recuse,
    Settle,
    Statement,
    Verdict,
    Withdraw,
)
from escrow.payout import Split, verdict_split

Said = tuple[str, Payload, bytes | None]  # label, payload, `seen` (None: the last known to be said)


def has_words(message: Message) -> bool:
    return bool(Statement.from_wire(message.payload).statement)


def asked(message: Message) -> int:
    return Ask.from_wire(message.payload).buyer_sat


def steps(scene: Any, state: State) -> Iterator[Step]:
    """Return every step of a malicious party."""
    for role, name in enumerate(ROLES):
        if scene.honest[role]:
            continue
        if name == "B" and not state.fiat and not scene.late_in(state):
            yield "m", "B* really pays", state._replace(fiat=1)
        for to in range(4):
            if state.nodes[to] < 0:
                continue
            if role < 2 and scene.late_in(state):
                continue
            for label, payload, seen in _menu(scene, state, role, to):
                yield from _say(scene, state, role, to, label, payload, seen)
            if role < 2 <= to and state.lies < scene.family.lies and not scene.late_in(state):
                yield from _lies(scene, state, role, to)
    yield from _spends(scene, state)


def _say(
    scene: Any,
    state: State,
    role: int,
    to: int,
    label: str,
    payload: Payload,
    seen: bytes | None,
) -> Iterator[Step]:
    local = scene.local(state, to)
    last = [m.seen for m in _from(local.journal, role, to)]
    number = say(
        scene.begun.trade_id,
        ROLES[role],
        ROLES[to],
        payload,
        local.journal,
        scene.views.things[local.view].tip,
        seen=seen if seen is not None else (last[-1] if last else ZERO),
    )
    answer = scene.minds[to].answer(state.nodes[to], ("hear", number))
    if answer is None or answer is REFUSED:
        return
    after = scene.settle(state, to, answer)
    if after != state:
        yield "m", f"{ROLES[role]}*->{ROLES[to]}: {label}", after


def _from(journal: Any, role: int, to: int) -> list[Message]:
    """Return the messages of one party to another in a journal, by number."""
    found = [WORDS.words[n] for n in journal]
    mine = [m for m in found if (m.sender, m.recipient) == (IDS[ROLES[role]], IDS[ROLES[to]])]
    return sorted(mine, key=lambda m: m.seq)


def _menu(scene: Any, state: State, role: int, to: int) -> Iterator[Said]:
    """Return what one party may say to another."""
    if role < 2 and to < 2:
        yield from _trader_menu(scene, state, role, to)
    elif role >= 2 and to < 2:
        yield from _arbiter_menu(scene, state, role, to)


def _trader_menu(scene: Any, state: State, role: int, to: int) -> Iterator[Said]:
    local = scene.local(state, to)
    journal = [WORDS.words[n] for n in local.journal]
    mine, theirs = _from(local.journal, role, to), _from(state.told, to, role)
    kinds = {m.kind for m in mine}
    if Kind.ACCOUNT not in kinds:
        yield "ACCOUNT", Account(disclosure=b"details"), None
    if role == 0:
        accounts = [m for m in journal if m.kind is Kind.ACCOUNT and m.sender == IDS["S"]]
        for account in accounts if Kind.ACK not in kinds else ():
            yield "ACK", Ack(account_id=account.id), None
        if Kind.PAID not in kinds:
            yield "PAID", Paid(note=""), None
        if Kind.NOT_PAID not in kinds and scene.family.refuses:
            yield "NOT_PAID", NotPaid(note=""), None
        refund = scene.splits["refund"]
        concede = Settle(ok_id=ZERO, signatures=scene.bench.sign(scene.contract.key_b, refund))
        if Kind.SETTLE not in kinds and scene.family.refuses:
            yield "SETTLE of REFUND", concede, None
    elif Kind.RECEIVED not in kinds and scene.family.releases:
        signed = scene.bench.sign(scene.contract.key_s, scene.splits["release"])
        yield "RECEIVED", Received(signatures=signed), None
    yield from _talk(scene, role, mine, theirs)


def _talk(scene: Any, role: int, mine: list[Message], theirs: list[Message]) -> Iterator[Said]:
    """ASK, WITHDRAW, OK, COVER, SETTLE: rule R3, with any `seen`."""
    family = scene.family
    if not family.asks:
        return
    places = [m.id for m in theirs]
    asks = [m for m in mine if m.kind is Kind.ASK]
    if ROLES[role] in family.askers and not asks:
        for name in family.asks:
            split = scene.splits[name]
            ask = Ask(buyer_sat=split.buyer_sat, seller_sat=split.seller_sat, note="")
            yield f"ASK {name}", ask, None
    if asks and not any(m.kind is Kind.WITHDRAW for m in mine):
        yield "WITHDRAW", Withdraw(ask_id=asks[0].id), None
    for n, m in enumerate(theirs):
        covered = places[n:]
        if m.kind is Kind.ASK and not any(o.kind is Kind.OK for o in mine):
            for seen in covered:
                yield "OK", Ok(ask_id=m.id), seen
        if m.kind in {Kind.WITHDRAW, Kind.OK} and not any(
            o.kind is Kind.COVER and Cover.from_wire(o.payload).covered_id == m.id for o in mine
        ):
            for seen in covered:
                yield "COVER", Cover(covered_id=m.id), seen
    if any(m.kind is Kind.SETTLE for m in mine):
        return
    oks = [m for m in (*mine, *theirs) if m.kind is Kind.OK]
    key = scene.contract.key_b if role == 0 else scene.contract.key_s
    for ok in oks:
        for name in family.asks:
            signed = scene.bench.sign(key, scene.splits[name])
            yield f"SETTLE {name}", Settle(ok_id=ok.id, signatures=signed), None


def _arbiter_menu(scene: Any, state: State, role: int, to: int) -> Iterator[Said]:
    contract = scene.contract
    mine = _from(scene.local(state, to).journal, role, to)
    kinds = {m.kind for m in mine}
    if Kind.NOTICE not in kinds:
        opener = IDS[ROLES[1 - to]]
        yield "NOTICE", Notice(dispute_id=ZERO, opener=opener, statement="so"), None
        return
    if Kind.VERDICT not in kinds:
        branch = int(role == 3)
        key = contract.key_a2 if branch else contract.key_a
        for name in ("release", "refund"):
            split = verdict_split(contract, scene.splits[name].buyer_sat, branch)
            b, s, a = split.array()
            signed = scene.bench.sign(key, split, branch)
            verdict = Verdict(
                buyer_sat=b, seller_sat=s, arbiter_sat=a, signatures=signed, reason="so"
            )
            yield f"VERDICT {name}", verdict, None
    if Kind.RECUSE not in kinds and scene.family.refuses:
        yield "RECUSE", Recuse(reason="no"), None
    if Kind.FORWARD not in kinds:
        for paper in _papers_known(state):
            if paper.kind in {Kind.RECEIVED, Kind.SETTLE}:
                yield f"FORWARD {paper.kind.name}", Forward(messages=(paper.wire(),)), None


def _papers_known(state: State) -> list[Message]:
    """Return the papers in what malicious arbiters were shown."""
    raw: dict[bytes, None] = {}
    for m in known(state.told, Kind.DISPUTE):
        raw.update(dict.fromkeys(Dispute.from_wire(m.payload).messages))
    for m in known(state.told, Kind.STATEMENT):
        raw.update(dict.fromkeys(Statement.from_wire(m.payload).messages))
    return [WORDS.parse(r) for r in raw]


# ------------------------------------------------------------------ papers for an arbiter


def _lies(scene: Any, state: State, role: int, to: int) -> Iterator[Step]:
    """Call an arbiter or make a statement, with papers of the liar's choice."""
    arbiter = scene.local(state, to)
    opened = bool(_from(arbiter.journal, role, to))
    rulings = tuple(
        m.wire()
        for m in known(state.told, Kind.VERDICT, Kind.RECUSE)
        if m.sender != IDS[ROLES[to]] and m.recipient == IDS[ROLES[role]]
    )
    marked = state._replace(lies=state.lies + 1)
    for label, papers in _variants(scene, state, role):
        raw = tuple(m.wire() for m in papers)
        payload: Payload = (
            Statement(statement="so", messages=raw, rulings=rulings)
            if opened
            else Dispute(
                contract=scene.contract.wire(),
                messages=raw,
                records=(),
                rulings=rulings,
                statement="so",
            )
        )
        yield from _say(scene, marked, role, to, label, payload, None)


def _variants(scene: Any, state: State, role: int) -> Iterator[tuple[str, list[Message]]]:
    """Return transcripts: the other's words cut short, one's own true or with an OK never sent."""
    peer = 1 - role
    if scene.honest[peer] and state.nodes[peer] >= 0:
        mine = _from(scene.local(state, peer).journal, role, peer)
    else:
        mine = _from(scene.begun.numbers, role, peer)
    base = _from(scene.begun.numbers, peer, role)
    theirs = [*base, *(m for m in _from(state.told, peer, role) if m not in base)]
    yield "all true papers", [*theirs, *mine]
    if not scene.family.asks:
        return
    first = len(_from(scene.begun.numbers, role, peer))
    for ask in (m for m in theirs if m.kind is Kind.ASK):
        part = theirs[: theirs.index(ask) + 1]
        for kept in range(first, len(mine) + 1):
            forged = _unsent(scene, mine[:kept], role, Ok(ask_id=ask.id), ask.id)
            yield f"an OK never sent, as number {kept}", [*theirs, *mine[:kept], forged]
            if len(part) < len(theirs):
                yield f"that OK, and nothing after the ASK, {kept}", [*part, *mine[:kept], forged]
        if len(part) < len(theirs):
            yield "nothing after the ASK", [*part, *mine]


def _unsent(scene: Any, mine: list[Message], role: int, payload: Payload, seen: bytes) -> Message:
    last = mine[-1]
    number = WORDS.say(
        scene.begun.trade_id,
        last.sender,
        last.recipient,
        last.seq + 1,
        last.id,
        seen,
        last.tip_height,
        payload,
    )
    return WORDS.words[number]


# ------------------------------------------------------------------ spending


def _spends(scene: Any, state: State) -> Iterator[Step]:
    """Complete every first signature that malicious parties hold; two keys spend at will."""
    foes = [ROLES[r] for r in range(4) if not scene.honest[r]]
    if not foes:
        return
    found: dict[tuple[int, Split], str] = {}
    for m in known(state.told, Kind.RECEIVED, Kind.SETTLE, Kind.VERDICT):
        branch = int(m.sender == IDS["A2"])
        found[branch, scene.first_signed(m, state)] = "completes"
    for m in known(state.told, Kind.FORWARD):
        for raw in Forward.from_wire(m.payload).messages:
            inner = WORDS.parse(raw)
            if inner.kind in {Kind.RECEIVED, Kind.SETTLE, Kind.VERDICT}:
                branch = int(inner.sender == IDS["A2"])
                found[branch, scene.first_signed(inner, state)] = "completes"
    for branch, keys in ((0, {"B", "S", "A"}), (1, {"B", "S", "A2"})):
        if len(keys & set(foes)) > 1:
            for split in scene.splits.values():
                found[branch, split] = "steal"
    for (branch, split), verb in found.items():
        after = scene.broadcast(state, scene.bench.payouts(split, branch)[0])
        if after != state:
            yield "m", f"{'+'.join(foes)}* {verb} {scene.name(after.spends[-1])}", after
