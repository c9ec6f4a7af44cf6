"""The one error that the trade's machines have of their own."""

from p2pnode.base.errors import PeerFault


class NotYet(PeerFault):
    """Our chain view or the message before it lags: the peer sends it again later."""
