"""Keeps a proof wherever a peer is seen to have signed twice (`escrow.equivocation`).

    a message arrives whose number another one in our journal holds      two messages
    a verdict arrives, or in a FORWARD, that divides otherwise           two verdicts
    traders show an arbiter two chains, or two verdicts of an arbiter    either

Proof, event and log line are one transaction. Nothing here changes what becomes of the message:
what is refused stays refused, and a disk that is full costs the proof and not the refusal.
"""

import logging
from collections.abc import Iterable
from typing import Final

from escrow.equivocation import carried, found
from escrow.messages import ZERO, Kind, Message
from escrow.shell_desktop import Desktop
from p2pnode.base.errors import StorageFault

log: Final = logging.getLogger(__name__)


class Lookout:
    """Compares what arrives with what is held."""

    def __init__(self, world: Desktop) -> None:
        self._world = world

    def arrived(self, message: Message) -> None:
        """Look at a verified message that is not known yet, before anything else does."""
        if message.trade_id == ZERO:
            return
        journal = self._world.journal
        try:
            if message.kind not in {Kind.VERDICT, Kind.FORWARD}:
                held = journal.at(message)
                if held is not None and held.id != message.id:
                    self.keep((held, message))
                return
            heard = journal.messages(message.trade_id)
            parties = {m.sender for m in heard}  # else a stranger could fill our disk
            both = (*_whole(heard), *_whole((message,)))
            self._try(m for m in both if m.sender in parties)
        except StorageFault as error:
            log.warning("no proof was looked for: %s", error)

    def shown(self, messages: Iterable[Message]) -> None:
        """Look at what a case holds, with what one of its parties shows."""
        self._try(_whole(messages))

    def _try(self, messages: Iterable[Message]) -> None:
        try:
            self.keep(messages)
        except StorageFault as error:
            log.warning("a proof of equivocation is not kept: %s", error)

    def keep(self, messages: Iterable[Message]) -> None:
        """Keep what these messages prove of others, and tell it once. Raises StorageFault."""
        world = self._world
        others = [p for p in found(messages) if p.sender != world.me]
        if not others:
            return
        with world.journal.database.transaction():
            for proof in others:
                if not world.journal.proofs.keep(proof, world.clock.now()):
                    continue
                trade_id, by = proof.trade_id.hex(), proof.sender.hex()
                world.announce.publish(
                    "equivocation", trade_id=trade_id, by=by, what=proof.what.words
                )
                told = (by[:16], proof.what.words, trade_id[:16])
                log.warning("%s signed %s in trade %s: the proof is kept", *told)


def _whole(messages: Iterable[Message]) -> list[Message]:
    """Return the messages, each with what it hands on."""
    return [one for m in messages for one in (m, *carried(m))]
