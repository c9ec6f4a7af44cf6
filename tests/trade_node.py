"""One node's trading half over real parts; what a crash leaves of it is its database."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import bdkpython as bdk
import trio
import trio.testing
from trade_fakes import CountedKeys, CountedPurse, Desk, Registry
from trade_post import NET, MemoryStreams

from dht.shell_mailbox import Mailbox
from escrow.backend_electrum import ElectrumChain
from escrow.backend_keys import TradeKey, TradeKeys
from escrow.backend_signatures import REAL, Opinions
from escrow.backend_wallet import BdkWallet
from escrow.facts import Facts
from escrow.messages import ZERO, Kind, Message
from escrow.model import State
from escrow.shell_desktop import Desktop
from escrow.store_evidence import Shelf
from escrow.store_journal import Journal
from escrow.store_locks import CoinLocks
from p2pnode.app.events import Events
from p2pnode.app.exchange import Exchange
from p2pnode.app.fit import TradeMailbox
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint


@dataclass
class Node:
    """One node's trading half. What a crash leaves is the database and the words."""

    name: str
    rig: Any  # trade_kit.Rig
    identity: Identity
    words: str
    database: Database
    desk: Desk
    registry: Registry
    opinions: Opinions = REAL
    signed: list[str] = field(default_factory=list)  # every use of a secret key, by kind
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    chain: ElectrumChain = field(init=False)
    wallet: BdkWallet = field(init=False)
    locks: CoinLocks = field(init=False)
    box: Mailbox | None = field(default=None, init=False)
    exchange: Exchange = field(init=False)

    @property
    def id(self) -> bytes:
        return self.identity.node_id

    @property
    def journal(self) -> Journal:
        return self.exchange.world.journal

    def build(self) -> None:
        rig = self.rig
        self.chain = ElectrumChain(
            "127.0.0.1", rig.port, NET, SystemClock(), timeout=5, first_delay=0.01
        )
        self.locks = CoinLocks(self.database)
        self.wallet = BdkWallet(self.words, NET, self.database, self.chain, self.locks)
        world = Desktop(
            identity=self.identity,
            network=NET,
            journal=Journal(
                self.database,
                NET,
                Shelf(hashlib.sha256(self.words.encode()).digest(), NET),
                rig.clock,
            ),
            locks=self.locks,
            clock=rig.clock,
            randomness=SystemRandomness(),
            chain=self.chain,
            purse=CountedPurse(self.wallet, self.signed),
            keys=CountedKeys(self.words, self.signed),
            desk=self.desk,
            announce=Events(self.database),
            opinions=self.opinions,
        )

        async def locate(peer: bytes) -> tuple[str, ...]:
            await trio.lowlevel.checkpoint()
            return ("/memory",)

        streams = MemoryStreams(rig.post, self.id)
        self.box = rig.mailbox(self) if rig.mailbox else None
        mail = TradeMailbox(self.box) if self.box else None
        self.exchange = Exchange(
            world, streams, self.registry, locate, self.database, rig.board, mail
        )

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self.scope, self.ended = trio.CancelScope(), trio.Event()
        self.build()
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self.rig.post.nurseries[self.id] = nursery
                    await nursery.start(self.chain.run)
                    if not self.name.startswith("arbiter"):  # who needs no coin here
                        await nursery.start(self.wallet.run)
                    if self.box:
                        await nursery.start(self.box.run)
                    await nursery.start(self.exchange.run)
                    task_status.started()
                    try:
                        await trio.sleep_forever()
                    finally:
                        self.rig.post.handlers.pop(self.id, None)
        finally:
            self.ended.set()

    # -- looking

    def state(self, trade_id: bytes) -> State | None:
        row = self.journal.row(trade_id)
        return row.state if row else None

    def note(self, trade_id: bytes) -> str:
        row = self.journal.row(trade_id)
        return row.note if row else ""

    def facts(self, trade_id: bytes) -> Facts:
        return self.exchange.trades.facts(self.exchange.trades.row(trade_id))

    def said(self, trade_id: bytes, kind: Kind) -> Message | None:
        """Our first message of that kind, or None."""
        found = (m for m in self.journal.messages(trade_id) if m.sender == self.id)
        return next((m for m in found if m.kind is kind), None)

    def heard(self, trade_id: bytes, kind: Kind) -> Message | None:
        found = (m for m in self.journal.messages(trade_id) if m.sender != self.id)
        return next((m for m in found if m.kind is kind), None)

    def snapshot(self) -> dict[str, Any]:
        """Everything that a message could have changed: journal, locks, coins, signatures."""
        tables = (
            *("trade", "message", "split", "coin_lock", "declared_coin"),
            *("arbiter_record", "trade_record"),
        )
        kept: dict[str, Any] = {"reserved": dict(self.desk.reserved), "signed": len(self.signed)}
        for table in tables:
            rows = (tuple(r) for r in self.database.all(f"SELECT * FROM {table}"))  # noqa: S608
            skip = {"trade": -3, "message": -1, "arbiter_record": -1}.get(table)
            kept[table] = sorted(row[:skip] for row in rows)
        return kept

    def locked(self) -> set[Outpoint]:
        return self.locks.locked()

    def balance(self) -> int:
        return self.wallet.balance().confirmed

    def coin_key(self, script: bytes) -> bytes:
        """The secret of one of the wallet's coins, for a thief who signs what he should not."""
        keychain, index = self.wallet._scripts[script]
        root = bdk.DescriptorSecretKey(
            bdk.NetworkKind.TEST, bdk.Mnemonic.from_string(self.words), None
        )
        path = bdk.DerivationPath(f"m/84h/1h/0h/{keychain}/{index}")
        return bytes(root.derive(path).secret_bytes())

    def trade_key(self, trade_id: bytes) -> TradeKey:
        """The trader's escrow key, uncounted."""
        return TradeKeys(self.words, NET).escrow_key(trade_id)

    # -- forging

    def next_message(
        self, trade_id: bytes, to: bytes, kind: Kind, payload: bytes, **change: Any
    ) -> Message:
        """Sign a message that would be our next one to `to`, with any header field changed."""
        chains = "SELECT id FROM message WHERE trade_id = ? AND sender = ? AND recipient = ?"
        ordered = f"{chains} ORDER BY number"
        applied = self.rig.applied(to, trade_id)
        mine = [r["id"] for r in self.database.all(ordered, trade_id, self.id, to)]
        mine = [i for i in mine if i in applied]
        theirs = [r["id"] for r in self.database.all(ordered, trade_id, to, self.id)]
        tip = self.chain.tip()
        values: dict[str, Any] = {
            "network": NET,
            "kind": kind,
            "trade_id": trade_id,
            "sender": self.id,
            "recipient": to,
            "seq": len(mine),
            "prev": mine[-1] if mine else ZERO,
            "seen": theirs[-1] if theirs else ZERO,
            "tip_height": tip.height,
            "tip_hash": tip.hash,
            "draw_no": 0,
            "payload": payload,
        }
        return Message(**(values | change)).signed(self.identity)
