"""Valid trades by fixed keys: messages, facts and cases for the tests of the pure cores.

Nothing here touches a network, a wallet or a real chain. `Play` tells one whole trade message
by message; `facts` and `case` are what a trader and the arbiter know of it at that point.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from coincurve import PrivateKey

from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.case import Case
from escrow.contract import KIND_2OF3, KIND_BACKUP, Contract
from escrow.draw import Drawn, Listed, commit, conclude, find_work, root
from escrow.examine_settling import World
from escrow.facts import Facts, Own
from escrow.funding import Funding
from escrow.keys import arbiter_path
from escrow.messages import ZERO, Kind, Message
from escrow.model import ChainView
from escrow.payloads import (
    Abort,
    Account,
    Ack,
    Ask,
    Chat,
    ContractSigned,
    Cover,
    Declared,
    Dispute,
    Draw,
    Forward,
    Get,
    Inputs,
    Notice,
    NotPaid,
    Ok,
    Page,
    Paid,
    Part,
    Payload,
    Received,
    Recuse,
    Reveal,
    Settle,
    Statement,
    Take,
    Verdict,
    Witness,
)
from escrow.payout import (
    Branch,
    Split,
    build_payout,
    check_first_signatures,
    payout_rates,
    release,
    verdict_split,
)
from escrow.script import p2wpkh, witness_script
from escrow.sighash import sighash
from escrow.terms import Terms
from escrow.transcript import shown_rulings
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS, Network
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut
from p2pnode.base.units import fiat_for

NET = NETWORKS["sandbox"]
TIP = 250
ANCHOR = TIP - 6
FRESH = TIP - 24
NOW = 1_800_000_000
MTP = 1_799_996_400
AMOUNT = 2_000_000  # so that the depth is 3
RATE = 2
LISTS = {"maker": (0, 1, 2, 3), "taker": (0, 1, 2, 4)}  # arbiters by number


def h(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def block_hash(height: int) -> bytes | None:
    """A fake header chain, the same for everyone, from block 0 to TIP."""
    return h(f"block {height}") if 0 <= height <= TIP else None


class FakeEyes:
    """One's own chain as the draw sees it; `roots` are merkle roots by height."""

    def __init__(self, roots: Mapping[int, bytes] | None = None) -> None:
        self.roots = dict(roots or {})

    def block_hash(self, height: int) -> bytes | None:
        return block_hash(height)

    def merkle_root(self, height: int) -> bytes | None:
        return self.roots.get(height)

    def mtp(self, height: int) -> int:
        return MTP - 600 * (TIP - height)


EYES = FakeEyes()


@cache
def identity(name: str, network: Network = NET) -> Identity:
    return Identity.grind(network, h(name))


@cache
def secret(name: str) -> PrivateKey:
    return PrivateKey(h(f"secret of {name}"))


def schnorr(key: PrivateKey, message: bytes) -> bytes:
    return bytes(key.sign_schnorr(message, aux_randomness=bytes(32)))


@cache
def record(
    number: int,
    at_height: int = FRESH,
    *,
    fee_base: int = 1000,
    at_hash: bytes = b"",
    who: str = "",
    network: Network = NET,
) -> ArbiterRecord:
    """The record of arbiter `number`, or of the identity named `who`."""
    name = who or f"arbiter {number}"
    account = secret(f"arbitration {name}")
    made = ArbiterRecord(
        network=network,
        node_id=identity(name, network).node_id,
        point=account.public_key.format(),
        chain_code=h(f"chain code {name}"),
        fee_base=fee_base,
        fee_ppm=1000,
        at_height=at_height,
        at_hash=at_hash or block_hash(at_height) or ZERO,
    )
    return made.signed(identity(name, network), lambda m: schnorr(account, m))


def _arbiter(node_id: bytes) -> Identity:
    found = (identity(f"arbiter {n}") for n in range(9))
    return next(who for who in found if who.node_id == node_id)


def listing(records: Iterable[ArbiterRecord]) -> Listed:
    return tuple(sorted((r.outpoint, r.id) for r in records))


def arbiter_secret(seed: bytes, outpoint: bytes) -> PrivateKey:
    """The drawn arbiter's escrow key by private derivation (BIP 32, CKDpriv, not hardened)."""
    import hmac

    name = next(f"arbiter {n}" for n in range(9) if record(n).outpoint == outpoint)
    key, chain_code = secret(f"arbitration {name}"), h(f"chain code {name}")
    for index in arbiter_path(seed, outpoint, NET):
        data = key.public_key.format() + index.to_bytes(4, "big")
        digest = hmac.digest(chain_code, data, "sha512")
        key, chain_code = key.add(digest[:32]), digest[32:]
    return key


def first_signatures(
    key: PrivateKey,
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    branch: Branch = Branch.MAIN,
) -> tuple[bytes, bytes]:
    """A key's signatures on the payout of `split`, at both rates."""
    low, raised = (
        bytes(key.sign(_digest(contract, outpoint, split, rate, branch), hasher=None)) + b"\x01"
        for rate in payout_rates(contract)
    )
    return low, raised


def _digest(
    contract: Contract, outpoint: Outpoint, split: Split, rate: int, branch: Branch
) -> bytes:
    payout = build_payout(contract, outpoint, split, rate, branch)
    return sighash(payout.tx, 0, [payout.prevout], witness_script(contract))


def coin(name: str, value: int, height: int) -> Declared:
    """A coin alone in its block, so that its txid is the merkle root."""
    script = p2wpkh(b"\x02" + h(f"coin of {name}"))
    tx = Transaction(2, (TxIn(Outpoint(h(f"before {name}"), 0)),), (TxOut(value, script),), 0)
    return Declared(
        outpoint=Outpoint(tx.txid, 0).wire(),
        prev_tx=tx.serialize(),
        height=height,
        position=0,
        branch=(),
    )


@cache
def _own(name: str, key: PrivateKey, listed: Listed, backup: bytes) -> Own:
    disclosure = f"pay {name} at the bank".encode()
    return Own(
        nonce=h(f"nonce of {name}"),
        listed=listed,
        part=Part(
            escrow_key=key.public_key.format(),
            backup_key=backup,
            script=p2wpkh(b"\x02" + h(f"payout of {name}")),
            account_hash=hashlib.sha256(disclosure).digest(),
        ),
        disclosure=disclosure,
    )


class Bench:
    """`examine.Bench` without keys: first signatures are really checked, witnesses are not."""

    def check_witnesses(self, funding: Funding, side: Any, stacks: Any) -> None:
        assert len(stacks) == len(funding.own(side))

    def assemble(self, funding: Funding, stacks_b: Any, stacks_s: Any) -> bytes:
        return funding.tx.serialize()

    def check_first(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: tuple[bytes, bytes],
        branch: Branch = Branch.MAIN,
    ) -> None:
        check_first_signatures(contract, outpoint, split, signer, signatures, branch)

    def complete(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: tuple[bytes, bytes],
        branch: Branch = Branch.MAIN,
    ) -> tuple[bytes, bytes]:
        self.check_first(contract, outpoint, split, signer, signatures, branch)
        low, raised = (
            build_payout(contract, outpoint, split, rate, branch).tx.serialize()
            for rate in payout_rates(contract)
        )
        return low, raised


class Play:
    """One trade, told message by message, in the order in which they are said and applied."""

    def __init__(
        self,
        *,
        maker_is_seller: int = 1,
        lists: dict[str, Sequence[int]] | None = None,
        numbered: dict[int, ArbiterRecord] | None = None,
        chain: Eyes = EYES,
        anchor: int = ANCHOR,
        kind: str = KIND_BACKUP,
    ) -> None:
        self.kind = kind
        self.maker, self.taker = identity("maker"), identity("taker")
        self.maker_is_seller = maker_is_seller
        self.seller = self.maker if maker_is_seller else self.taker
        self.buyer = self.taker if maker_is_seller else self.maker
        self.lists = lists or LISTS
        self.numbered = numbered or {n: record(n) for n in range(5)}
        self.records = {r.id: r for r in self.numbered.values()}
        self.chain, self.anchor = chain, anchor
        self.messages: list[Message] = []

    # -- what everyone brings

    def name(self, who: Identity) -> str:
        return "maker" if who is self.maker else "taker"

    def listed(self, who: Identity) -> Listed:
        return listing(self.numbered[n] for n in self.lists[self.name(who)])

    def key(self, who: Identity) -> PrivateKey:
        return secret(f"escrow of {self.name(who)}")

    def backup_key(self, who: Identity) -> PrivateKey:
        return secret(f"backup of {self.name(who)}")

    def own(self, who: Identity) -> Own:
        name = self.name(who)
        backup = self.backup_key(who).public_key.format() if self.kind == KIND_BACKUP else b""
        return _own(name, self.key(who), self.listed(who), backup)

    @cached_property
    def terms(self) -> Terms:
        return Terms(
            offer_hash=h("offer"),
            maker=self.maker.node_id,
            maker_is_seller=self.maker_is_seller,
            currency="EUR",
            exponent=2,
            min_sat=200_000,
            max_sat=5_000_000,
            price=60_000_00 * 10_000,
            slack_bp=0,
            method="CUSTOM",
            period_s=3600,
            dep_b_bp=1500,
            dep_s_bp=2000,
            escrow_kinds=(KIND_2OF3, KIND_BACKUP),
        )

    @property
    def arbiter(self) -> Identity:
        return _arbiter(self.contract.arbiter)

    @property
    def runner_up(self) -> Identity:
        return _arbiter(self.contract.runner_up)

    def judge_key(self, judge: Identity) -> PrivateKey:
        """The escrow key of the arbiter, or the backup key of the runner-up."""
        contract = self.contract
        bond = contract.bond_a if judge.node_id == contract.arbiter else contract.bond_a2
        return arbiter_secret(contract.seed, bond)

    # -- what follows

    def one(self, sender: Identity, kind: Kind) -> Message:
        return next(m for m in self.messages if (m.sender, m.kind) == (sender.node_id, kind))

    @property
    def drawn(self) -> Drawn:
        three = (
            self.one(self.taker, Kind.TAKE),
            self.one(self.maker, Kind.DRAW),
            self.one(self.taker, Kind.REVEAL),
        )
        return conclude(*three, self.records, self.chain)

    @cached_property
    def contract(self) -> Contract:
        return replace(self.facts(self.maker), records=self.records).contract

    @property
    def outpoint(self) -> Outpoint:
        return self.facts(self.maker).outpoint

    def signatures(
        self, key: PrivateKey, split: Split, branch: Branch = Branch.MAIN
    ) -> tuple[bytes, bytes]:
        return first_signatures(key, self.contract, self.outpoint, split, branch)

    # -- what is known

    def facts(
        self, me: Identity, view: ChainView | None = None, *, lacks: Iterable[int] = ()
    ) -> Facts:
        """What a trader knows; `lacks` are arbiters whose record he has not."""
        gone = {self.numbered[n].id for n in lacks}
        return Facts(
            network=NET,
            me=me.node_id,
            maker=self.maker.node_id,
            taker=self.taker.node_id,
            terms=self.terms,
            own=self.own(me),
            messages=tuple(m for m in self.messages if me.node_id in (m.sender, m.recipient)),
            records={i: r for i, r in self.records.items() if i not in gone},
            eyes=self.chain,
            view=view,
        )

    def case(self, view: ChainView | None = None, judge: Identity | None = None) -> Case:
        """What an arbiter knows: every paper, what was shown, and his own chains."""
        me = (judge or self.arbiter).node_id
        traders = {self.maker.node_id, self.taker.node_id}
        messages = tuple(m for m in self.messages if me in (m.sender, m.recipient))
        return Case(
            network=NET,
            me=me,
            contract=self.contract,
            messages=messages,
            papers=tuple(m for m in self.messages if {m.sender, m.recipient} == traders),
            shown=shown_rulings(messages, self.contract),
            view=view,
        )

    def world(self, me: Identity) -> World:
        roots = {
            d.height: Outpoint.from_wire("coin", d.outpoint).txid
            for who in (self.maker, self.taker)
            for d in self.inputs(who).inputs
        }
        ours = self.inputs(me).change_script

        def check_account(disclosure: bytes, account_hash: bytes, method: str) -> None:
            assert hashlib.sha256(disclosure).digest() == account_hash

        return World(
            bench=Bench(),
            tip_height=TIP,
            merkle_root=roots.get,
            own_rate=RATE,
            is_ours=lambda script: script == ours,
            is_busy=lambda point: False,
            check_account=check_account,
        )

    # -- what is said

    def say(self, sender: Identity, payload: Payload, to: bytes = b"") -> Message:
        """Sign the next message of the sender's chain and apply it."""
        message = self.next(sender, payload, to)
        self.messages.append(message)
        return message

    def next(self, sender: Identity, payload: Payload, to: bytes = b"") -> Message:
        """Return what would come next, signed."""
        if not to:
            to = (self.taker if sender is self.maker else self.maker).node_id
        chain = (sender.node_id, to)
        mine = [m for m in self.messages if (m.sender, m.recipient) == chain]
        theirs = [m for m in self.messages if (m.recipient, m.sender) == chain]
        take = payload.kind is Kind.TAKE
        return Message(
            network=NET,
            kind=payload.kind,
            trade_id=ZERO if take else self.messages[0].id,
            sender=sender.node_id,
            recipient=to,
            seq=len(mine),
            prev=mine[-1].id if mine else ZERO,
            seen=theirs[-1].id if theirs else ZERO,
            tip_height=TIP,
            tip_hash=block_hash(TIP) or ZERO,
            draw_no=1 if payload.kind in {Kind.TAKE, Kind.DRAW} else 0,
            payload=payload.wire(),
        ).signed(sender)

    # -- the payloads, each true at its place

    def take(self) -> Take:
        own = self.own(self.taker)
        draft = Take(
            offer_hash=self.terms.offer_hash,
            maker=self.maker.node_id,
            counter=ZERO,
            amount_sat=AMOUNT,
            fiat_minor=fiat_for(AMOUNT, self.terms.price),
            method="CUSTOM",
            escrow_kind=self.kind,
            anchor_h=self.anchor,
            anchor_hash=self.chain.block_hash(self.anchor) or ZERO,
            work=0,
            root=root(NET, own.listed),
            commitment=commit(NET, own.nonce),
        )
        return replace(draft, work=find_work(NET, draft, self.taker.node_id))

    def draw(self) -> Draw:
        own = self.own(self.maker)
        take = self.messages[0].id
        return Draw(take_id=take, nonce=own.nonce, arbiters=own.listed, part=own.part, rate=RATE)

    def reveal(self) -> Reveal:
        own, draw = self.own(self.taker), self.one(self.maker, Kind.DRAW)
        return Reveal(draw_id=draw.id, nonce=own.nonce, arbiters=own.listed, part=own.part)

    def get(self, who: Identity) -> Get:
        """Ask for what the peer lists and we do not."""
        peer = self.maker if who is self.taker else self.taker
        mine = {i for _, i in self.listed(who)}
        return Get(ids=tuple(sorted(i for _, i in self.listed(peer) if i not in mine)))

    def page(self, who: Identity) -> Page:
        """Answer the peer's GET."""
        asked = self.one(self.maker if who is self.taker else self.taker, Kind.GET)
        ids = Get.from_wire(asked.payload).ids
        return Page(get_id=asked.id, records=tuple(self.records[i].wire() for i in ids))

    def signed_contract(self, who: Identity) -> ContractSigned:
        signature = schnorr(self.key(who), self.contract.hash)
        return ContractSigned(contract=self.contract.wire(), signature=signature)

    def inputs(self, who: Identity) -> Inputs:
        name, value = self.name(who), 3_000_000 if who is self.seller else 500_000
        change = p2wpkh(b"\x02" + h(f"change of {name}"))
        declared = coin(name, value, 100 + (who is self.seller))
        return Inputs(inputs=(declared,), change_script=change)

    def witness(self, who: Identity) -> Witness:
        key = self.key(who).public_key.format()
        return Witness(stacks=((b"\x30" + 70 * b"\x01", key),))

    def account(self, who: Identity) -> Account:
        return Account(disclosure=self.own(who).disclosure)

    def ack(self) -> Ack:
        return Ack(account_id=self.one(self.seller, Kind.ACCOUNT).id)

    def received(self) -> Received:
        return Received(signatures=self.signatures(self.key(self.seller), release(self.contract)))

    def ask(self, buyer_sat: int) -> Ask:
        return Ask(buyer_sat=buyer_sat, seller_sat=self.contract.escrow_sat - buyer_sat, note="")

    def last(self, sender: Identity, kind: Kind) -> Message:
        return [m for m in self.messages if (m.sender, m.kind) == (sender.node_id, kind)][-1]

    def settle(self, who: Identity, split: Split, ok_id: bytes = ZERO) -> Settle:
        return Settle(ok_id=ok_id, signatures=self.signatures(self.key(who), split))

    def papers(self) -> tuple[bytes, ...]:
        traders = {self.maker.node_id, self.taker.node_id}
        return tuple(m.wire() for m in self.messages if {m.sender, m.recipient} == traders)

    def rulings(self, who: Identity) -> tuple[bytes, ...]:
        """What the arbiter has ruled, as this trader heard it."""
        return tuple(
            m.wire()
            for m in self.messages
            if m.recipient == who.node_id and m.kind in {Kind.VERDICT, Kind.RECUSE}
        )

    def dispute(self, who: Identity | None = None) -> Dispute:
        return Dispute(
            contract=self.contract.wire(),
            messages=self.papers(),
            records=tuple(r.wire() for _, r in sorted(self.records.items())),
            rulings=self.rulings(who) if who else (),
            statement="he does not answer",
        )

    def notice(self, opener: Identity) -> Notice:
        dispute = self.one(opener, Kind.DISPUTE).id
        words = "he does not answer"
        return Notice(dispute_id=dispute, opener=opener.node_id, statement=words)

    def statement(self) -> Statement:
        return Statement(statement="it was otherwise", messages=self.papers(), rulings=())

    def forward(self, *messages: Message) -> Forward:
        found = messages or (self.one(self.seller, Kind.RECEIVED),)
        return Forward(messages=tuple(m.wire() for m in found))

    def verdict(self, buyer_sat: int, judge: Identity | None = None) -> Verdict:
        judge = judge or self.arbiter
        branch = Branch.BACKUP if judge.node_id == self.contract.runner_up else Branch.MAIN
        split = verdict_split(self.contract, buyer_sat, branch)
        return Verdict(
            buyer_sat=split.buyer_sat,
            seller_sat=split.seller_sat,
            arbiter_sat=split.arbiter_sat,
            signatures=self.signatures(self.judge_key(judge), split, branch),
            reason="the papers show it",
        )

    # -- whole stretches

    def open(self) -> "Play":
        """From TAKE to the point where both know the draw and every record."""
        self.say(self.taker, self.take())
        self.say(self.maker, self.draw())
        self.say(self.taker, self.get(self.taker))
        self.say(self.maker, self.page(self.maker))
        self.say(self.taker, self.reveal())
        self.say(self.maker, self.get(self.maker))
        self.say(self.taker, self.page(self.taker))
        return self

    def agree(self) -> "Play":
        """Both sign the contract."""
        self.open()
        for who in (self.taker, self.maker):
            self.say(who, self.signed_contract(who))
        return self

    def declare(self) -> "Play":
        """Both declare their coins."""
        self.agree()
        for who in (self.taker, self.maker):
            self.say(who, self.inputs(who))
        return self

    def fund(self) -> "Play":
        """Both sign the funding."""
        self.declare()
        for who in (self.buyer, self.seller):
            self.say(who, self.witness(who))
        return self

    def tell_accounts(self) -> "Play":
        """Payment details of both, after depth."""
        self.fund()
        for who in (self.seller, self.buyer):
            self.say(who, self.account(who))
        return self

    def acknowledge(self) -> "Play":
        """The buyer has the seller's details."""
        self.tell_accounts()
        self.say(self.buyer, self.ack())
        return self

    def call_arbiter(self, opener: Identity, judge: Identity | None = None) -> "Play":
        """A dispute, acknowledged to both."""
        arbiter = judge or self.arbiter
        called = self.say(opener, self.dispute(opener), arbiter.node_id)
        for trader in (self.buyer, self.seller):
            notice = Notice(
                dispute_id=called.id, opener=opener.node_id, statement="he does not answer"
            )
            self.say(arbiter, notice, trader.node_id)
        return self

    def bind(self, asker: Identity, buyer_sat: int, upto: str = "COVER") -> "Play":
        """ASK, OK and COVER of another split, up to the one named."""
        other = self.taker if asker is self.maker else self.maker
        ask = self.say(asker, self.ask(buyer_sat))
        if upto != "ASK":
            ok = self.say(other, Ok(ask_id=ask.id))
            if upto != "OK":
                self.say(asker, Cover(covered_id=ok.id))
        return self


WORDS: dict[Kind, Payload] = {
    Kind.ABORT: Abort(reason="no longer"),
    Kind.PAID: Paid(note="sent today"),
    Kind.NOT_PAID: NotPaid(note="the bank refuses"),
    Kind.CHAT: Chat(text="are you there?"),
    Kind.RECUSE: Recuse(reason="I know one of them"),
}
