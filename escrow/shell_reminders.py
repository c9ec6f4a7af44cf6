"""Reminds the user of what falls due: an event and a log line, once each, over restarts.

An arbiter hears 48, 24 and 6 hours before a reply or his ruling is due, a trader before the
time to pay, to exchange details or to reply is over. Looked at whenever the chain moves, for
its clock is the one that counts; what was given is kept in the transaction of the event.
"""

import logging
from typing import Final

from escrow.deadlines import Deadline, of_case, of_trade, reminders
from escrow.shell_trades import ENDED, Trades
from escrow.store_journal import ARBITER, TRADER, Row
from escrow.store_remarks import Remarks
from p2pnode.base.errors import NodeError

log: Final = logging.getLogger(__name__)


class Reminders:
    """Looks at every living trade and case."""

    def __init__(self, trades: Trades, remarks: Remarks) -> None:
        self._trades = trades
        self._remarks = remarks

    def look(self) -> None:
        """Say what is to be said now; a trade that cannot be read says so itself elsewhere."""
        journal = self._trades.world.journal
        for row in (*journal.rows(TRADER), *journal.rows(ARBITER)):
            if isinstance(row.state, ENDED):
                continue
            try:
                self._remind(row)
            except NodeError as error:
                log.info("trade %s is not looked at: %s", row.trade_id.hex()[:16], error)

    def _due(self, row: Row) -> tuple[Deadline, ...]:
        """Return a trade's or case's deadlines."""
        if row.role == ARBITER:
            return of_case(row.state, self._trades.case(row))
        if not row.own:
            return ()  # a TAKE refused at once
        return of_trade(row.state, self._trades.facts(row))

    def _remind(self, row: Row) -> None:
        found, mtp = self._due(row), self._trades.world.chain.tip().mtp
        world, trade_id = self._trades.world, row.trade_id
        for said in reminders(found, mtp, self._remarks.given(trade_id)):
            what, at = said.deadline.name, said.deadline.at_mtp
            with world.journal.database.transaction():
                for hours in (*said.passed, said.hours):
                    self._remarks.give(trade_id, said.deadline.key, hours)
                world.announce.publish(
                    "reminder",
                    trade_id=trade_id.hex(),
                    role=row.role,
                    what=what,
                    hours=said.hours,
                    by_mtp=at,
                )
            short = trade_id.hex()[:16]
            log.info("%s %s: %s is due within %d h", row.role, short, what, said.hours)
