"""A receipt: what proves to anybody with a chain of his own that a trade took place.

    receipt = [1, network, contract: bin, root, take, maker: said, taker: said, ended, funding,
               payout]
    root    = [point: bin 33, chain_code: bin 32]
    take    = [tip_height, tip_hash, draw_no, payload_hash]
    said    = [seq, prev, seen, tip_height, tip_hash, signature, escrow_signature]
    ended   = [by, to, seq, prev, seen, tip_height, tip_hash, payload_hash, signature]
    funding = [transaction: bin, height, position, branch]
    payout  = [buyer_sat, seller_sat, arbiter_sat, raised, height, position, branch]

It is no message: each trader makes it of his own journal, and no peer can refuse it. Both
CONTRACT headers and the header that ended the trade (RECEIVED, or an arbiter's VERDICT) are
given by the lines that the contract does not fix; the rest is put back before the signatures
are checked, so nothing of another trade fits. The payout is not given but built: only the
very transaction that the contract makes of a split leads to our header. The funding has the
form of `escrow.funding`: its locktime is the anchor, so no payout passes for a funding.

The chain knows keys and no names. So a trader's escrow key lies below his root at a path of the
trade's id, which is the hash of TAKE's header, which names both: one funding proves one trade
of two traders, and whoever owns all its keys can not lend it to others later.

A receipt names both traders. Who ends as released gets credit, both; by a verdict the buyer,
if the amount went to him. Pure; the one declared error is InvalidRecord. docs/wire/receipts.md.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Self

from escrow.bond import Eyes
from escrow.confirm import FINAL_DEPTH
from escrow.contract import MAX_BYTES as MAX_CONTRACT
from escrow.contract import Contract
from escrow.keys import bound_public, check_point, verify_schnorr
from escrow.messagefile import NO_PAYLOAD
from escrow.messages import VERSION as MESSAGE_VERSION
from escrow.messages import Kind, Message
from escrow.payloads import MAX_INPUTS, ContractSigned
from escrow.payout import Branch, build_payout, payout_rates, release
from escrow.proven import Proven
from escrow.receipt_parts import By, Ended, Funding, Payout, Root, Said, Taken, below, part_of
from escrow.script import escrow_script
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import check_node_id
from p2pnode.base.networks import Network
from p2pnode.base.transaction import (
    SEQUENCE_RBF,
    Outpoint,
    Transaction,
    parse_transaction,
    root_from_branch,
)

VERSION: Final = 1
MAX_BYTES: Final = 8192  # the longest contract, 16 inputs and two branches of 20 take 5,700
MAX_OUTPUTS: Final = 3  # the escrow, and each side's change


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A receipt. `from_wire` checks all that needs no chain; `decoded` only its form."""

    contract: Contract
    root: Root
    take: Taken
    maker: Said
    taker: Said
    ended: Ended
    funding: Funding
    payout: Payout

    @property
    def network(self) -> Network:
        """The network on which it was traded."""
        return self.contract.network

    @property
    def parties(self) -> tuple[bytes, bytes]:
        """Both traders."""
        return self.contract.maker, self.contract.taker

    # -- the wire

    def wire(self) -> bytes:
        """Return the canonical bytes."""
        parts = (
            self.root,
            self.take,
            self.maker,
            self.taker,
            self.ended,
            self.funding,
            self.payout,
        )
        rest = (part.array() for part in parts)
        return wire.pack((VERSION, self.network.name, self.contract.wire(), *rest))

    @classmethod
    def decoded(cls, raw: object, network: Network) -> Self:
        """Parse and bound; no signature and no transaction is checked. Raises InvalidRecord."""
        parts = wire.fields("receipt", wire.unpack("receipt", raw, limit=MAX_BYTES), 10)
        wire.within("version", parts[0], VERSION, VERSION)
        if parts[1] != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        return cls(
            contract=Contract.from_wire(wire.blob("contract", parts[2], MAX_CONTRACT), network),
            root=part_of(Root, "root", parts[3]),
            take=part_of(Taken, "take", parts[4]),
            maker=part_of(Said, "maker", parts[5]),
            taker=part_of(Said, "taker", parts[6]),
            ended=part_of(Ended, "ended", parts[7]),
            funding=part_of(Funding, "funding", parts[8]),
            payout=part_of(Payout, "payout", parts[9]),
        )

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and check everything that needs no chain. Raises InvalidRecord."""
        receipt = cls.decoded(raw, network)
        receipt.check_papers()
        return receipt

    # -- what needs no chain

    @cached_property
    def funding_tx(self) -> Transaction:
        """The funding, of the form that its contract fixes. Raises InvalidRecord."""
        field = "funding.transaction"
        tx = parse_transaction(field, self.funding.transaction)
        if any(i.witness or i.script_sig or i.sequence != SEQUENCE_RBF for i in tx.inputs):
            raise InvalidRecord(field, "is not stripped, or has inputs of another form")
        if (tx.version, tx.locktime) != (2, self.contract.anchor_h):
            raise InvalidRecord(field, "is not of version 2, locked to the contract's anchor")
        if len(tx.inputs) > 2 * MAX_INPUTS or len(tx.outputs) > MAX_OUTPUTS:
            raise InvalidRecord(field, "has more inputs or outputs than a funding")
        for parts in (
            [i.outpoint.wire() for i in tx.inputs],
            [o.script for o in tx.outputs],
        ):
            keys = [hashlib.sha256(self.contract.hash + part).digest() for part in parts]
            if any(a >= b for a, b in pairwise(keys)):
                raise InvalidRecord(field, "is not in the order that the contract gives")
        return tx

    @cached_property
    def outpoint(self) -> Outpoint:
        """The escrow's output. Raises InvalidRecord where the funding has none of its value."""
        script, value = escrow_script(self.contract), self.contract.escrow_sat
        tx = self.funding_tx
        for n, output in enumerate(tx.outputs):  # one script stands once: they ascend strictly
            if output.script == script and output.value == value:
                return Outpoint(tx.txid, n)
        raise InvalidRecord("funding.transaction", "does not pay the contract's escrow")

    @cached_property
    def payout_txid(self) -> bytes:
        """Txid of the payout that the contract makes of the split. Raises InvalidRecord."""
        contract, by, split = self.contract, By(self.ended.by), self.payout.split
        if by is By.BACKUP and not contract.n:
            raise InvalidRecord("ended.by", "is a runner-up, whom this kind of escrow has not")
        if by is By.RECEIVED and split != release(contract):
            raise InvalidRecord("payout.buyer_sat", "is not the release that RECEIVED stands for")
        branch = Branch.BACKUP if by is By.BACKUP else Branch.MAIN
        rates = payout_rates(contract)
        if self.payout.raised and rates[0] == rates[1]:
            raise InvalidRecord("payout.raised", "is 1 where both rates are the same")
        rate, outpoint = rates[self.payout.raised], self.outpoint
        try:
            return build_payout(contract, outpoint, split, rate, branch).tx.txid
        except InvalidRecord as error:
            raise below("payout", error) from None

    def check_papers(self) -> None:
        """Check transactions and signatures, the cheapest first. Raises InvalidRecord."""
        for name, node_id in zip(("maker", "taker"), self.parties, strict=True):
            check_node_id(name, node_id, self.network)
        self._check_names()
        _ = self.payout_txid  # which checks the funding
        contract = self.contract
        for name, said, node_id in (
            ("maker", self.maker, contract.maker),
            ("taker", self.taker, contract.taker),
        ):
            key = contract.key_b if node_id == contract.buyer else contract.key_s
            signature = said.escrow_signature
            self._header(name, said, self._contract_lines(node_id, signature))
            verify_schnorr(key, contract.hash, signature, f"{name}.escrow_signature")
        self._header("ended", self.ended, self._end_lines())

    def _check_names(self) -> None:
        """Check that a key on the chain was made for a trade of these two, and no other."""
        contract, take = self.contract, self.take
        body = (
            *(MESSAGE_VERSION, int(Kind.TAKE), bytes(32), contract.taker, contract.maker, 0),
            *(bytes(32), bytes(32), take.tip_height, take.tip_hash, take.draw_no),
            take.payload_hash,
        )
        if wire.digest(wire.tag(self.network.name, "message"), body) != contract.trade_id:
            raise InvalidRecord("take", "is not the TAKE whose id the trade has")
        try:
            point = check_point("root.point", self.root.point)
            key = bound_public(point, self.root.chain_code, contract.trade_id, self.network)
        except InvalidRecord as error:
            raise InvalidRecord("root.point", str(error).partition(": ")[2]) from None
        if key not in (contract.key_b, contract.key_s):
            raise InvalidRecord("root.point", "does not lead to an escrow key of the contract")

    def _contract_lines(self, sender: bytes, signature: bytes) -> tuple[Kind, bytes, bytes, bytes]:
        contract = self.contract
        said = ContractSigned(contract=contract.wire(), signature=signature)
        recipient = contract.taker if sender == contract.maker else contract.maker
        return Kind.CONTRACT, sender, recipient, hashlib.sha256(said.wire()).digest()

    def _end_lines(self) -> tuple[Kind, bytes, bytes, bytes]:
        contract, ended = self.contract, self.ended
        to = contract.seller if ended.to else contract.buyer
        if ended.by == By.RECEIVED:
            if ended.to:
                raise InvalidRecord("ended.to", "is not the buyer, to whom RECEIVED is sent")
            return Kind.RECEIVED, contract.seller, to, ended.payload_hash
        judge = contract.arbiter if ended.by == By.VERDICT else contract.runner_up
        return Kind.VERDICT, judge, to, ended.payload_hash

    def _header(
        self, name: str, said: Said | Ended, lines: tuple[Kind, bytes, bytes, bytes]
    ) -> None:
        """Put the whole header back and verify it. Raises InvalidRecord."""
        kind, sender, recipient, payload_hash = lines
        body = (
            *(MESSAGE_VERSION, int(kind), self.contract.trade_id, sender, recipient),
            *(said.seq, said.prev, said.seen, said.tip_height, said.tip_hash, 0, payload_hash),
        )
        try:
            Message.from_header(body, said.signature, NO_PAYLOAD, self.network)
        except InvalidRecord as error:
            raise below(name, error) from None

    # -- what our chain says

    def roots(self) -> tuple[bytes, bytes]:
        """Return the merkle roots that funding and payout lead to. Raises InvalidRecord."""
        found = []
        for name, txid, place in (
            ("funding", self.funding_tx.txid, self.funding),
            ("payout", self.payout_txid, self.payout),
        ):
            try:
                found.append(root_from_branch(txid, place.branch, place.position))
            except InvalidRecord as error:
                raise InvalidRecord(f"{name}.branch", str(error).partition(": ")[2]) from None
        return found[0], found[1]

    def check_heights(self, eyes: Eyes) -> None:
        """Check that both blocks are deep enough in our chain. Raises InvalidRecord."""
        first, last = self.funding.height, self.payout.height
        if first <= self.contract.anchor_h:
            raise InvalidRecord("funding.height", "is not above the contract's anchor")
        after = self.contract.n if self.ended.by == By.BACKUP else 0
        if last < first + after:
            raise InvalidRecord("payout.height", f"is not {after} blocks above the funding's")
        if eyes.block_hash(last + FINAL_DEPTH - 1) is None:
            raise InvalidRecord("payout.height", f"is not {FINAL_DEPTH} deep in our chain")

    def check_chain(self, eyes: Eyes) -> None:
        """Check that both transactions are deep in our chain. Raises InvalidRecord."""
        self.check_heights(eyes)
        heights = (self.funding.height, self.payout.height)
        for name, height, root in zip(("funding", "payout"), heights, self.roots(), strict=True):
            if eyes.merkle_root(height) != root:
                raise InvalidRecord(f"{name}.branch", "does not lead to our header's merkle root")

    def proven(self, eyes: Eyes) -> Proven:
        """Check everything, the cheapest first, and return what it says. Raises InvalidRecord."""
        self.check_chain(eyes)
        self.check_papers()
        contract, split = self.contract, self.payout.split
        blocks = [eyes.block_hash(h) for h in (self.funding.height, self.payout.height)]
        released = self.ended.by == By.RECEIVED
        return Proven(
            contract_hash=contract.hash,
            trade_id=contract.trade_id,
            maker=contract.maker,
            taker=contract.taker,
            maker_is_seller=contract.maker_is_seller,
            amount_sat=contract.amount_sat,
            currency=contract.currency,
            fiat_minor=contract.fiat_minor,
            method=contract.method,
            outcome="released" if released else "ruled",
            buyer_credit=int(released or split.buyer_sat >= contract.amount_sat),
            seller_credit=int(released),
            funding_txid=self.funding_tx.txid,
            payout_txid=self.payout_txid,
            funded_at=eyes.mtp(self.funding.height),
            funding_height=self.funding.height,
            funding_block=blocks[0] or b"",
            payout_height=self.payout.height,
            payout_block=blocks[1] or b"",
        )
