"""The bench of one trade: our keys of it, and the second opinions, behind `examine.Bench`.

A thin fit of `backend_signatures` and `backend_funding` to what the machines ask; it holds no
state of its own, so it is made anew for each trade and each start. Calls block for some
milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from escrow import backend_funding, backend_signatures
from escrow.backend_keys import TradeKey
from escrow.backend_signatures import REAL, Opinions, Pair, WalletSign
from escrow.contract import Contract
from escrow.funding import Funding, FundingInput, Owner
from escrow.payout import Branch, Split, check_first_signatures
from p2pnode.base.errors import InvalidRecord, PeerFault
from p2pnode.base.transaction import Outpoint, Transaction

Stacks = tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True)
class TradeBench:
    """Our keys at one trade. Raises what `backend_signatures` raises."""

    key: TradeKey
    opinions: Opinions = REAL
    backup_key: TradeKey | None = None  # of the kind with a backup branch

    def check_witnesses(self, funding: Funding, side: Owner, stacks: Stacks) -> None:
        """Check the peer's witnesses; see `backend_funding.check_witnesses`."""
        backend_funding.check_witnesses(funding, side, stacks, self.opinions)

    def assemble(self, funding: Funding, stacks_b: Stacks, stacks_s: Stacks) -> bytes:
        """Return the final funding, every input past Bitcoin Core's rules."""
        final = backend_funding.assemble_funding(funding, stacks_b, stacks_s, self.opinions)
        return final.serialize()

    def check_first(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Pair,
        branch: Branch = Branch.MAIN,
    ) -> None:
        """Check another's first signatures on our own rebuild. Raises PeerFault."""
        try:
            check_first_signatures(contract, outpoint, split, signer, signatures, branch)
        except InvalidRecord as error:
            raise PeerFault(str(error), field=error.field) from None

    def complete(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Pair,
        branch: Branch = Branch.MAIN,
    ) -> Pair:
        """Return the payouts with both signatures, raw; see `backend_signatures.complete`.

        The other's signatures are checked first: nothing is signed because of a bad one.
        """
        self.check_first(contract, outpoint, split, signer, signatures, branch)
        low, raised = backend_signatures.complete(
            contract,
            outpoint,
            split,
            self._key(branch),
            signer,
            signatures,
            branch,
            self.opinions,
        )
        return low.serialize(), raised.serialize()

    def first_sign(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        branch: Branch = Branch.MAIN,
    ) -> Pair:
        """Return our first signatures on a split whose row is committed (R1)."""
        return backend_signatures.first_sign(
            contract, outpoint, split, self._key(branch), branch, self.opinions
        )

    def _key(self, branch: Branch) -> TradeKey:
        """Return our key of a branch; a runner-up has one alone, whichever way it was given."""
        return self.backup_key or self.key if branch is Branch.BACKUP else self.key

    def sign_contract(self, contract: Contract) -> bytes:
        """Return the BIP 340 signature of the contract's hash by our escrow key."""
        return self.key.sign_schnorr(contract.hash)

    def sign_funding(
        self, contract: Contract, funding: Funding, sign: WalletSign, side: Owner
    ) -> Stacks:
        """Return the witnesses of our own inputs; see `backend_funding.sign_funding`."""
        return tuple(
            backend_funding.sign_funding(contract, funding, sign, side, opinions=self.opinions)
        )

    def sign_respend(
        self, tx: Transaction, coins: Sequence[FundingInput], sign: WalletSign
    ) -> bytes:
        """Return our coins' way out (`funding.respend`), signed."""
        final = backend_funding.sign_respend(tx, coins, sign, self.opinions)
        return final.serialize()

    def sign_child(self, tx: Transaction, coin: FundingInput, sign: WalletSign) -> bytes:
        """Return a child that pays for its parent (`bump.child`, `bump.coin`), signed."""
        return backend_funding.sign_child(tx, coin, sign, self.opinions).serialize()
