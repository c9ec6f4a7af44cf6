"""The bench of one trade: our key of it, and the second opinions, behind `examine.Bench`.

A thin fit of `backend_signatures` to what the machines ask; it holds no state of its own, so it
is made anew for each trade and each start. Calls block for some milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from escrow import backend_signatures
from escrow.backend_keys import TradeKey
from escrow.backend_signatures import REAL, Opinions, WalletSign
from escrow.contract import Contract
from escrow.funding import Funding, FundingInput, Owner
from escrow.payout import Split, check_first_signature
from p2pnode.base.errors import InvalidRecord, PeerFault
from p2pnode.base.transaction import Outpoint, Transaction

Stacks = tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True)
class TradeBench:
    """One key at one trade. Raises what `backend_signatures` raises."""

    key: TradeKey
    opinions: Opinions = REAL

    def check_witnesses(self, funding: Funding, side: Owner, stacks: Stacks) -> None:
        """Check the peer's witnesses; see `backend_signatures.check_witnesses`."""
        backend_signatures.check_witnesses(funding, side, stacks, self.opinions)

    def assemble(self, funding: Funding, stacks_b: Stacks, stacks_s: Stacks) -> bytes:
        """Return the final funding, every input past Bitcoin Core's rules."""
        final = backend_signatures.assemble_funding(funding, stacks_b, stacks_s, self.opinions)
        return final.serialize()

    def check_first(
        self, contract: Contract, outpoint: Outpoint, split: Split, signer: bytes, signature: bytes
    ) -> None:
        """Check another's first signature on our own rebuild. Raises PeerFault."""
        try:
            check_first_signature(contract, outpoint, split, None, signer, signature)
        except InvalidRecord as error:
            raise PeerFault(str(error), field=error.field) from None

    def complete(
        self, contract: Contract, outpoint: Outpoint, split: Split, signer: bytes, signature: bytes
    ) -> bytes:
        """Return the payout with both signatures; see `backend_signatures.complete`.

        The other's signature is checked first: nothing is signed because of a bad one.
        """
        self.check_first(contract, outpoint, split, signer, signature)
        final = backend_signatures.complete(
            contract, outpoint, split, None, self.key, signer, signature, self.opinions
        )
        return final.serialize()

    def first_sign(self, contract: Contract, outpoint: Outpoint, split: Split) -> bytes:
        """Return our first signature on a split whose row is committed (R1)."""
        return backend_signatures.first_sign(
            contract, outpoint, split, None, self.key, self.opinions
        )

    def sign_contract(self, contract: Contract) -> bytes:
        """Return the BIP 340 signature of the contract's hash by our escrow key."""
        return self.key.sign_schnorr(contract.hash)

    def sign_funding(
        self, contract: Contract, funding: Funding, sign: WalletSign, side: Owner
    ) -> Stacks:
        """Return the witnesses of our own inputs; see `backend_signatures.sign_funding`."""
        return tuple(
            backend_signatures.sign_funding(contract, funding, sign, side, opinions=self.opinions)
        )

    def sign_respend(
        self, tx: Transaction, coins: Sequence[FundingInput], sign: WalletSign
    ) -> bytes:
        """Return the buyer's way out, signed."""
        final = backend_signatures.sign_respend(tx, coins, sign, self.opinions)
        return final.serialize()
