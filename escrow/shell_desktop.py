"""What the trades' shells share: the node's ports, the journal, the keys."""

from dataclasses import dataclass

from escrow.backend_keys import TradeKeys
from escrow.backend_signatures import REAL, Opinions
from escrow.needs import Announce, Desk, Locks, Purse
from escrow.store_journal import Journal
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Chain, Clock, Randomness


@dataclass(kw_only=True)
class Desktop:
    """Everything that the trades' shells share: the ports, the journal and the keys."""

    identity: Identity
    network: Network
    journal: Journal
    locks: Locks
    clock: Clock
    randomness: Randomness
    chain: Chain
    purse: Purse
    keys: TradeKeys
    desk: Desk
    announce: Announce
    opinions: Opinions = REAL

    @property
    def me(self) -> bytes:
        """Our node id."""
        return self.identity.node_id
