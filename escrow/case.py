"""What an arbiter knows of one case: the contract, the papers, his own messages, the chain."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from escrow.contract import Contract
from escrow.facts import funding_of
from escrow.funding import Funding
from escrow.messages import Kind, Message
from escrow.model import ChainView
from escrow.payloads import Dispute, Statement
from escrow.payout import Branch
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an arbiter knows: the contract, the traders' papers, his own messages, the chain."""

    network: Network
    me: bytes
    contract: Contract
    messages: tuple[Message, ...]  # of our own chains with the traders, and with the other arbiter
    papers: tuple[Message, ...]  # what the traders wrote to each other, as they showed it
    shown: tuple[Message, ...] = ()  # what an arbiter wrote to them, as they showed it
    view: ChainView | None = None

    def having(self, *messages: Message) -> Self:
        """Return the case with messages of our own chains added."""
        return replace(self, messages=(*self.messages, *messages))

    def all(self, sender: bytes, kind: Kind) -> tuple[Message, ...]:
        """Return the messages of our own chains by that sender and kind, oldest first."""
        return tuple(m for m in self.messages if m.sender == sender and m.kind is kind)

    def one(self, sender: bytes, kind: Kind) -> Message | None:
        """Return the first message of our own chains by that sender and kind."""
        return next(iter(self.all(sender, kind)), None)

    def paper(self, sender: bytes, kind: Kind) -> Message | None:
        """Return the first paper of that trader and kind."""
        return next((m for m in self.papers if m.sender == sender and m.kind is kind), None)

    @property
    def branch(self) -> Branch:
        """The branch of the escrow that our key signs on."""
        return Branch.BACKUP if self.me == self.contract.runner_up else Branch.MAIN

    @property
    def fee(self) -> int:
        """Our fee, in satoshi."""
        return self.contract.fee_a2 if self.branch else self.contract.fee_a

    @property
    def traders(self) -> tuple[bytes, bytes]:
        """Buyer and seller."""
        return self.contract.buyer, self.contract.seller

    @property
    def opener(self) -> bytes:
        """Who called us."""
        return next(m.sender for m in self.messages if m.kind is Kind.DISPUTE)

    @cached_property
    def funding(self) -> Funding:
        """The funding, rebuilt from contract and inputs. Raises InvalidRecord."""
        funding = funding_of(self.contract, self.papers)
        if funding is None:
            raise InvalidRecord("messages", "lack the INPUTS of a trader")
        return funding

    @property
    def outpoint(self) -> Outpoint:
        """The escrow output. Raises InvalidRecord."""
        return self.funding.escrow_outpoint

    def words(self, trader: bytes) -> str:
        """Return a trader's statements, or nothing while he has made none."""
        said = []
        for m in self.messages:
            if m.sender == trader and m.kind is Kind.DISPUTE:
                said.append(Dispute.from_wire(m.payload).statement)
            if m.sender == trader and m.kind is Kind.STATEMENT:
                said.append(Statement.from_wire(m.payload).statement)
        return "\n".join(s for s in said if s)

    @property
    def both_heard(self) -> bool:
        """Tell whether both traders have made a statement."""
        return bool(self.words(self.contract.buyer) and self.words(self.contract.seller))
