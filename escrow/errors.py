"""The one error that the trade's machines have of their own."""

from p2pnode.base.errors import PeerFault


class NotYet(PeerFault):
    """Our chain view or the message before it lags: the peer sends it again later."""


class DataLost(PeerFault):
    """A peer has seen a message of ours that we do not have: our journal is too old."""


class NumberUsed(PeerFault):
    """The sender has signed another message of this number: he has lost data, or lies."""
