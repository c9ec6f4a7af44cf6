"""Which payouts a node completes by itself: rule R2, and what a payout's end is called.

A completer adds the second signature and publishes, so here lies what an arbiter alone could
do to an honest node: nothing that gives its owner more than the owner's own facts, and nothing
before the time at which an arbiter may rule so (R4). Pure; docs/trade.md, section 5.
"""

from typing import Final

from escrow.contract import Contract
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import Ruled, State
from escrow.payout import Branch, Split, build_payout, payout_rates, refund, release
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, parse_transaction

RAISE_BLOCKS: Final = 3  # without a confirmation, after which the raised rate goes out
BUMP_BLOCKS: Final = 6  # after which a child pays for it


def may_complete(split: Split, facts: Facts) -> bool:
    """Tell whether this node completes a verdict or backup of `split` without its user's word.

    Only what is its owner's own end, less the arbiter's fee: not more, or an arbiter alone
    could make it take the other's money; and not less, or he could make it give away its own.
    """
    seller = facts.me == facts.seller
    own = split.seller_sat if seller else split.buyer_sat
    due = own_end(facts)
    if not due - split.arbiter_sat <= own <= due:
        return False
    if facts.agreed or facts.one(facts.me, Kind.RECEIVED):
        return True  # signed already, and ruled by 144 blocks later
    if seller:  # whether money came, PAID or not, only its owner knows: a PAID may be withheld
        return bool(facts.one(facts.buyer, Kind.NOT_PAID) or facts.conceded)
    return in_time(split, facts)


def own_end(facts: Facts) -> int:
    """Return what is our user's of the escrow by his own facts, in satoshi."""
    contract = facts.contract
    seller = facts.me == facts.seller
    if agreed := facts.agreed:
        return agreed.seller_sat if seller else agreed.buyer_sat
    if seller:
        return contract.dep_s if facts.one(facts.me, Kind.RECEIVED) else refund(contract).seller_sat
    paid = facts.one(facts.me, Kind.PAID)
    return release(contract).buyer_sat if paid else contract.dep_b


def in_time(split: Split, facts: Facts) -> bool:
    """Tell whether an arbiter may have ruled so by now (R4), by our own chain."""
    contract, view = facts.contract, facts.view
    if split.buyer_sat >= release(contract).buyer_sat:
        return True
    if facts.one(facts.buyer, Kind.NOT_PAID) or facts.conceded or facts.agreed:
        return True
    if facts.one(facts.seller, Kind.RECEIVED):
        return True  # his release, ruled by after 144 blocks less the fee
    if view is None or not view.funding_height:
        return False
    return view.mtp >= contract.period_end(view.funding_mtp) + contract.reply_s


def splits(state: State, facts: Facts) -> dict[str, tuple[Split, Branch]]:
    """Return the ends of this trade that have a name, with the branch that pays them."""
    contract = facts.contract
    named = {
        "released": (release(contract), Branch.MAIN),
        "refunded": (refund(contract), Branch.MAIN),
    }
    if agreed := facts.agreed:
        named["agreed"] = (Split(agreed.buyer_sat, agreed.seller_sat, 0), Branch.MAIN)
    if isinstance(state, Ruled):
        branch = Branch.BACKUP if state.backup else Branch.MAIN
        named["ruled"] = (Split(state.buyer_sat, state.seller_sat, state.arbiter_sat), branch)
    elif any(facts.one(arbiter, Kind.VERDICT) for arbiter in facts.arbiters):
        backup, said = facts.ruling(of_runner_up=None)  # another end was signed too
        branch = Branch.BACKUP if backup else Branch.MAIN
        named["ruled"] = (Split(said.buyer_sat, said.seller_sat, said.arbiter_sat), branch)
    return named


def outcome(raw: bytes, state: State, facts: Facts) -> str:
    """Name the split that a confirmed spend paid: released, refunded, agreed, ruled or other."""
    spend = parse_transaction("spend", raw)
    if len(spend.inputs) != 1:
        return "other"
    point = spend.inputs[0].outpoint
    for name, (split, branch) in splits(state, facts).items():
        for rate in payout_rates(facts.contract):
            if _txid(facts.contract, point, split, rate, branch) == spend.txid:
                return name
    return "other"


def _txid(contract: Contract, point: Outpoint, split: Split, rate: int, branch: Branch) -> bytes:
    try:
        return build_payout(contract, point, split, rate, branch).tx.txid
    except InvalidRecord:
        return b""
