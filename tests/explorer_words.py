"""Messages without keys, shared: what the explorer's nodes say to each other, and how they begin.

A message's id is the real hash of its real body; only Ed25519 is left out, and who may sign what
is the explorer's own law: a party makes messages of its own alone. First signatures are hashes
of (key, payout), which nobody makes whose key it is not. Each message exists once, so a
journal is a tuple of small numbers.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from coincurve import PrivateKey

from escrow import contract as rules
from escrow.contract import Contract
from escrow.facts import Own
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.payloads import (
    ContractSigned,
    Dispute,
    Draw,
    Inputs,
    Part,
    Payload,
    Reveal,
    Statement,
    Take,
    Witness,
)
from escrow.payout import Branch, Split, build_payout, payout_rates
from escrow.script import p2wpkh
from p2pnode.base.errors import InvalidRecord, PeerFault
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Outpoint

NET = NETWORKS["sandbox"]
FUNDED = 1000  # height of the funding's block
MTP = 1_800_000_000  # median time past there
BLOCK_S = 600
DEPTH = 3
AMOUNT, DEP_B, DEP_S = 2_000_000, 300_000, 400_000
PERIOD_S = 7 * 86_400  # longer than the replies in a dispute
ROLES = ("B", "S", "A", "A2")
PREV = bytes(31) + b"\x01"  # stands for the hash of the message before
COVERED = frozenset({Kind.ASK, Kind.WITHDRAW, Kind.OK})  # what a `seen` may have to cover


def h(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


IDS = {role: h(f"node {role}") for role in ROLES}  # no message is verified, so no key is ground
ROLE_OF = {node_id: role for role, node_id in IDS.items()}


@cache
def _point(name: str) -> bytes:
    return bytes(PrivateKey(h(f"secret of {name}")).public_key.format())


class Lexicon:
    """Every message that was ever said, once."""

    def __init__(self) -> None:
        self.words: list[Message] = []
        self._number: dict[tuple[Any, ...], int] = {}
        self._by_id: dict[bytes, int] = {}
        self._by_wire: dict[bytes, Message] = {}

    def say(
        self,
        trade_id: bytes,
        sender: bytes,
        recipient: bytes,
        seq: int,
        prev: bytes,
        seen: bytes,
        height: int,
        payload: Payload,
    ) -> int:
        """Return the number of the message."""
        raw = payload.wire()
        key = (trade_id, payload.kind, sender, recipient, seq, prev, seen, height, raw)
        number = self._number.get(key)
        if number is None:
            message = Message(
                network=NET,
                kind=payload.kind,
                trade_id=trade_id,
                sender=sender,
                recipient=recipient,
                seq=seq,
                prev=prev,
                seen=seen,
                tip_height=height,
                tip_hash=ZERO,
                draw_no=0,
                payload=raw,
                signature=bytes(64),
            )
            number = self._number[key] = len(self.words)
            self.words.append(message)
            self._by_id[message.id] = number
            self._by_wire[message.wire()] = message
        return number

    def parse(self, raw: bytes, network: object = NET) -> Message:
        """Stand for `Message.from_wire`: the same bytes are the same message."""
        found = self._by_wire.get(raw)
        if found is None:
            raise InvalidRecord("message", "was never said")
        return found

    def number(self, message_id: bytes) -> int:
        return self._by_id[message_id]


WORDS = Lexicon()
POINT = Outpoint(h("funding"), 0)
FINAL = b"the funding, signed"


# ------------------------------------------------------------------ a trade as it begins


def _part(role: str) -> Part:
    return Part(
        escrow_key=_point(f"key of {role}"),
        backup_key=_point(f"backup key of {role}"),
        script=p2wpkh(_point(f"payout of {role}")),
        account_hash=h(f"account of {role}"),
    )


def _contract(trade_id: bytes, kind: str) -> Contract:
    backup = kind == rules.KIND_BACKUP
    keys2 = {
        f"key_{role.lower()}2": _point(f"backup key of {role}") if backup else b"" for role in "BSA"
    }
    return Contract(
        network=NET,
        trade_id=trade_id,
        offer_hash=h("offer"),
        reveal_id=h("reveal"),
        seed=h("seed"),
        maker=IDS["S"],
        taker=IDS["B"],
        maker_is_seller=1,
        amount_sat=AMOUNT,
        currency="EUR",
        fiat_minor=100_000,
        method="CUSTOM",
        dep_b=DEP_B,
        dep_s=DEP_S,
        escrow_kind=kind,
        key_b=_point("key of B"),
        key_s=_point("key of S"),
        key_a=_point("key of A"),
        **keys2,
        n=rules.backup_blocks(PERIOD_S) if backup else 0,
        arbiter=IDS["A"],
        runner_up=IDS["A2"],
        bond_a=h("bond of A") + bytes(4),
        bond_a2=h("bond of A2") + bytes(4),
        fee_a=3000,
        fee_a2=3000,
        script_b=_part("B").script,
        script_s=_part("S").script,
        rate=2,
        anchor_h=FUNDED - 10,
        fund_by=FUNDED - 10 + rules.FUND_WITHIN,
        depth=DEPTH,
        period_s=PERIOD_S,
        reply_s=rules.REPLY_S,
        verdict_s=rules.VERDICT_S,
        account_hash_b=h("account of B"),
        account_hash_s=h("account of S"),
    )


def own(role: str) -> Own:
    return Own(nonce=h(f"nonce of {role}"), listed=(), part=_part(role), disclosure=b"details")


class Beginning:
    """The messages from TAKE to WITNESS, and the contract; B takes, S made the offer."""

    def __init__(self, kind: str = rules.KIND_BACKUP) -> None:
        self.numbers: list[int] = []
        take = Take(
            offer_hash=h("offer"),
            maker=IDS["S"],
            counter=ZERO,
            amount_sat=AMOUNT,
            fiat_minor=100_000,
            method="CUSTOM",
            escrow_kind=kind,
            anchor_h=FUNDED - 10,
            anchor_hash=h("anchor"),
            work=0,
            root=h("root"),
            commitment=h("commitment"),
        )
        self.trade_id = ZERO
        self._say("B", take)
        self.trade_id = WORDS.words[self.numbers[0]].id
        self.contract = _contract(self.trade_id, kind)
        take_id = self.trade_id
        self._say("S", Draw(take_id=take_id, nonce=h("n"), arbiters=(), part=_part("S"), rate=2))
        draw_id = WORDS.words[self.numbers[1]].id
        self._say("B", Reveal(draw_id=draw_id, nonce=h("n"), arbiters=(), part=_part("B")))
        signed = ContractSigned(contract=self.contract.wire(), signature=bytes(64))
        coins = Inputs(inputs=(), change_script=b"")
        for payload in (signed, coins, Witness(stacks=())):
            self._say("B", payload)
            self._say("S", payload)

    def _say(self, role: str, payload: Payload) -> None:
        to = "S" if role == "B" else "B"
        self.numbers.append(say(self.trade_id, role, to, payload, self.numbers, FUNDED))


def say(
    trade_id: bytes,
    role: str,
    to: str,
    payload: Payload,
    journal: Iterable[int],
    height: int,
    *,
    seen: bytes | None = None,
    base: int = 0,
) -> int:
    """Compose the next message of `role` to `to` after those of `journal` (numbers).

    `base` is where the fresh chain of one who has lost data begins. What no rule reads is left
    out, so that what is alike is one: `prev` is the same in all, `seen` grows only over words that
    must be covered (R3), a height is said only where 144 blocks are counted from it (FORWARD).
    """
    me, peer = IDS[role], IDS[to]
    words = [WORDS.words[n] for n in journal]
    mine = [m for m in words if m.sender == me and m.recipient == peer and m.seq >= base]
    theirs = [m for m in words if m.sender == peer and m.recipient == me]
    top = max(mine, key=lambda m: m.seq) if mine else None
    seq = top.seq + 1 if top else base
    if seen is None:
        weighty = [m for m in theirs if m.kind in COVERED]
        last = max(weighty, key=lambda m: m.seq).id if weighty else ZERO
        seen = last if weighty or top is None else top.seen
    at = height if payload.kind is Kind.FORWARD else FUNDED
    prev = PREV if seq % FRESH_STEP else ZERO
    return WORDS.say(trade_id, me, peer, seq, prev, seen, at, payload)


def without_papers(number: int) -> int:
    """Return a DISPUTE or STATEMENT with its papers left out: all that its sender's rules read."""
    message = WORDS.words[number]
    if message.kind is Kind.DISPUTE:
        payload: Payload = replace(
            Dispute.from_wire(message.payload),
            messages=(b"papers",) * 5,
            rulings=(),
            statement="so",
        )
    else:
        payload = replace(Statement.from_wire(message.payload), messages=(), rulings=())
    return WORDS.say(
        message.trade_id,
        message.sender,
        message.recipient,
        message.seq,
        message.prev,
        message.seen,
        message.tip_height,
        payload,
    )


# ------------------------------------------------------------------ signatures without keys


class Bench:
    """`examine.Bench` of a party: a signature is a hash that only the key's owner asks for."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.made: dict[bytes, tuple[int, Split, int]] = {}  # raw payout: branch, split, rate

    def sign(self, key: bytes, split: Split, branch: int = 0) -> tuple[bytes, bytes]:
        """Return the pair of signatures of that public key's owner."""
        low, raised = (
            hashlib.sha256(repr((key, branch, rate, split.array())).encode()).digest()
            for rate in range(2)
        )
        return low, raised

    def payouts(self, split: Split, branch: int = 0) -> tuple[bytes, bytes]:
        """Return the payouts of a split at both rates, raw."""
        pair = _payouts(self.contract, split, branch)
        self.made.update({raw: (branch, split, rate) for rate, raw in enumerate(pair)})
        return pair

    def check_first(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Any,
        branch: Any = 0,
    ) -> None:
        if tuple(signatures) != self.sign(signer, split, int(branch)):
            raise PeerFault("signatures: are not the signer's on this split", field="signatures")

    def complete(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Any,
        branch: Any = 0,
    ) -> tuple[bytes, bytes]:
        self.check_first(contract, outpoint, split, signer, signatures, branch)
        return self.payouts(split, int(branch))


@cache
def _payouts(contract: Contract, split: Split, branch: int) -> tuple[bytes, bytes]:
    low, raised = (
        build_payout(contract, POINT, split, rate, Branch(branch)).tx.serialize()
        for rate in payout_rates(contract)
    )
    return low, raised
