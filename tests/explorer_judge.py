"""What an honest party must not lose, judged from the outside: by the money, not by the rules.

A buyer who has really paid gets the release, or what he agreed to; a seller who was not paid
gets the refund, or what he agreed to; each may owe the arbiter's fee. Whether a party is bound
to a split is counted here a second time, not asked of `escrow.accord`.
"""

from explorer_words import IDS, ROLES, WORDS
from explorer_world import FOE, GONE, Scene, State

from escrow import model
from escrow.messages import Kind, Message
from escrow.payloads import Ask, Ok, Withdraw
from escrow.payout import Split


def lost(scene: Scene, state: State, split: Split) -> str:
    """Name what an honest trader loses if this split is paid, or nothing."""
    contract = scene.contract
    due_b = scene.splits["release" if state.fiat else "refund"].buyer_sat
    due_s = scene.splits["release" if state.fiat else "refund"].seller_sat
    fee = max(contract.fee_a, contract.fee_a2)
    sides = ((0, split.buyer_sat, due_b), (1, split.seller_sat, due_s))
    for role, got, due in sides:
        if scene.honest[role] and got < due - fee and not agreed(scene, state, role, got, fee):
            money = "paid" if state.fiat else "unpaid"
            return f"honest {ROLES[role]} ({money}) gets {got} of {due} sat"
    return ""


def agreed(scene: Scene, state: State, role: int, got: int, fee: int) -> bool:
    """Tell whether this trader is bound to a split that gives him no more than he got.

    A buyer who has paid is never bound to a refund: that is what R3 is for.
    """
    splits = [split for who, split in state.pact if who == role]
    if state.nodes[role] >= 0:
        splits += pacts(scene, state, role)
    if role == 0 and state.fiat:
        splits = [s for s in splits if s != scene.splits["refund"]]
    return any((s.buyer_sat, s.seller_sat)[role] - fee <= got for s in splits)


def pacts(scene: Scene, state: State, role: int) -> list[Split]:
    """Return the splits that this trader's own words bind him to."""
    journal = [WORDS.words[n] for n in scene.local(state, role).journal]
    me, peer = IDS[ROLES[role]], IDS[ROLES[1 - role]]
    mine = [m for m in journal if (m.sender, m.recipient) == (me, peer)]
    theirs = [m for m in journal if (m.sender, m.recipient) == (peer, me)]
    found = [a for a in mine if a.kind is Kind.ASK and not _free(a, mine, theirs)]
    said = {Ok.from_wire(m.payload).ask_id for m in mine if m.kind is Kind.OK}
    found += [a for a in theirs if a.kind is Kind.ASK and a.id in said]
    asks = [Ask.from_wire(a.payload) for a in found]
    return [Split(a.buyer_sat, a.seller_sat, 0) for a in asks]


def _free(ask: Message, mine: list[Message], theirs: list[Message]) -> bool:
    """Tell whether the other's signed word covers our WITHDRAW before any OK of his."""
    taken = [m for m in mine if m.kind is Kind.WITHDRAW]
    back = next((m for m in taken if Withdraw.from_wire(m.payload).ask_id == ask.id), None)
    if back is None:
        return False
    later = {m.id for m in mine if m.seq >= back.seq}
    for m in theirs:
        if m.seen in later:
            return True
        if m.kind is Kind.OK and Ok.from_wire(m.payload).ask_id == ask.id:
            return False
    return False


def signed_twice(scene: Scene, state: State) -> str:
    """Name an honest key that first-signed two splits, beyond the exception of lost data."""
    for role, name in enumerate(ROLES):
        splits = [split for who, split in state.signed if who == role]
        if len(splits) < 2:
            continue
        gives_up = scene.splits["refund" if name == "B" else "release"]
        toxic = role < 2 and state.nodes[role] >= 0
        toxic = toxic and isinstance(scene.local(state, role).state, model.Toxic)
        if len(splits) > 2 or not (toxic and gives_up in splits):
            return f"the key of {name} first-signs {len(splits)} splits"
    return ""


def ended(scene: Scene, state: State) -> bool:
    """Tell whether each honest trader's machine would close on the spend that is mined."""
    return state.mined >= 0


def condition(scene: Scene, state: State) -> str:
    """Describe who is left to act: the class of a stuck state."""
    told = []
    for role, name in enumerate(ROLES):
        number = state.nodes[role]
        if number == FOE:
            told.append(f"{name} malicious")
        elif number == GONE:
            told.append(f"{name} gone")
        else:
            local = scene.local(state, role)
            told.append(f"{name} {type(local.state).__name__ if local.state else 'idle'}")
            if local.lost:
                told[-1] += " lost"
    return ", ".join((*told, "paid" if state.fiat else "unpaid"))
