"""An arbiter's node on a sandbox chain, and ruled cases whose escrows really exist there."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from chain_kit import NET, Purse, Rig, eventually
from escrow_tx_kit import WORDS, contract, h

from escrow.backend_bench import TradeBench
from escrow.backend_keys import TradeKey, TradeKeys
from escrow.backend_signatures import REAL, Opinions
from escrow.contract import Contract
from escrow.facts import funding_of
from escrow.funding import Funding
from escrow.keys import SIGHASH_ALL
from escrow.messages import ZERO, Message
from escrow.model import Hearing, RuledCase, State
from escrow.payloads import Ack, Declared, Dispute, Inputs, Paid, Payload
from escrow.payout import Split, verdict_split
from escrow.script import p2wpkh
from escrow.shell_desktop import Desktop
from escrow.shell_earnings import Earnings
from escrow.shell_trades import Trades
from escrow.sighash import sighash
from escrow.store_journal import ARBITER, Journal
from p2pnode.app import fit
from p2pnode.app.events import Events
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint, Transaction, parse_transaction

MAKER, TAKER, ARBITER_ID = (Identity.grind(NET, h(n)) for n in ("maker", "taker", "arbiter"))
KEYS = {role: TradeKeys(words, NET) for role, words in WORDS.items()}


@dataclass(frozen=True)
class Ruled:
    """One case: its contract, its confirmed funding, the verdict's payout, not sent yet."""

    contract: Contract
    funding: Funding
    payout: Transaction

    @property
    def outpoint(self) -> Outpoint:
        """Where the payout pays the arbiter."""
        script = p2wpkh(self.contract.key_a)
        (vout,) = (n for n, o in enumerate(self.payout.outputs) if o.script == script)
        return Outpoint(self.payout.txid, vout)


def signed(tx: Transaction, funding: Funding, keys: dict[bytes, TradeKey]) -> Transaction:
    inputs = []
    for n, spent in enumerate(funding.prevouts):
        key = keys[spent.script]
        der = key._key.sign(sighash(tx, n, funding.prevouts), hasher=None)
        stack = (der + bytes([SIGHASH_ALL]), key.public)
        inputs.append(replace(tx.inputs[n], witness=stack))
    return replace(tx, inputs=tuple(inputs))


class Court:
    """The arbiter's rooms over a rig; a second one on the same database is a restart."""

    def __init__(
        self, rig: Rig, database: Database | None = None, opinions: Opinions = REAL
    ) -> None:
        self.rig = rig
        self.purse = Purse(rig, database, words=WORDS["A"])
        self.database = self.purse.database
        world: Any = Desktop(
            identity=ARBITER_ID,
            network=NET,
            journal=Journal(self.database, NET),
            locks=self.purse.locks,
            clock=SystemClock(),
            randomness=SystemRandomness(),
            chain=rig.chain,
            purse=fit.WalletPurse(self.purse.wallet),
            keys=KEYS["A"],
            desk=None,  # type: ignore[arg-type]  # an arbiter makes no offers
            announce=Events(self.database),
            opinions=opinions,
        )
        self.trades = Trades(world)
        self.earnings = Earnings(self.trades)

    # -- cases

    def rule(self, name: str, fee_a: int = 4_000, state: State | None = None) -> Ruled:
        """Fund an escrow, journal its case as ruled, and make the payout; nothing pays yet."""
        made, payer = self._contract(name, fee_a), {}
        papers: list[Message] = []
        for role, who, value in (("B", TAKER, 100_000), ("S", MAKER, 700_000)):
            key = KEYS[role].escrow_key(h(f"coin {name}"))
            payer[p2wpkh(key.public)] = key
            inputs = self._coin(p2wpkh(key.public), value, p2wpkh(b"\x02" + h(f"{role} {name}")))
            papers += chain(made, who, inputs, Ack(account_id=h("account")), Paid(note=""))
        split = verdict_split(made, 100_000)
        self._journal(made, papers, state or RuledCase(*split.array(), "because"))
        funding = funding_of(made, papers)
        assert funding is not None
        self.rig.box.broadcast(signed(funding.tx, funding, payer).serialize())
        self.rig.mine()
        return Ruled(made, funding, payout_of(made, funding, split))

    def _contract(self, name: str, fee_a: int) -> Contract:
        trade_id, seed, bond = h(name), h(f"seed {name}"), ARBITER_ID.node_id + b"\xff" * 4
        return contract(
            network=NET,
            trade_id=trade_id,
            seed=seed,
            maker=MAKER.node_id,
            taker=TAKER.node_id,
            key_b=KEYS["B"].escrow_key(trade_id).public,
            key_s=KEYS["S"].escrow_key(trade_id).public,
            key_a=KEYS["A"].arbiter_key(seed, bond).public,
            bond_a=bond,
            fee_a=fee_a,
            anchor_h=self.rig.box.height,
        )

    def _coin(self, script: bytes, value: int, change: bytes) -> Inputs:
        tx = self.rig.box.fund(script, value)
        (vout,) = (n for n, o in enumerate(tx.outputs) if o.script == script)
        coin = Declared(
            outpoint=Outpoint(tx.txid, vout).wire(),
            prev_tx=tx.serialize(witness=False),
            height=1,
            position=0,
            branch=(),
        )
        return Inputs(inputs=(coin,), change_script=change)

    def _journal(self, made: Contract, papers: list[Message], state: State) -> None:
        payload = Dispute(
            contract=made.wire(),
            messages=tuple(m.wire() for m in papers),
            records=(b"\0",),
            rulings=(),
            statement="I have paid.",
        )
        dispute = message(made, TAKER, ARBITER_ID.node_id, payload)
        journal = self.trades.world.journal
        with self.database.transaction():
            journal.begin(made.trade_id, ARBITER, state, b"", b"", 1)
            journal.add(dispute, mine=False)

    # -- what it sees

    async def shows(self, earned: int, pending: int = 0) -> None:
        """Wait until this much is earned and pending."""

        async def check() -> None:
            seen = await self.earnings.seen()
            assert sum(e.value for e in await self.earnings.earned()) == earned
            assert sum(e.value for e in seen) == earned + pending

        await eventually(check)

    def pay(self, ruled: Ruled) -> None:
        """Broadcast a verdict's payout."""
        self.rig.box.broadcast(ruled.payout.serialize())
        self.rig.server.flush()


def payout_of(made: Contract, funding: Funding, split: Split) -> Transaction:
    point = funding.escrow_outpoint
    arbiter = TradeBench(KEYS["A"].arbiter_key(made.seed, made.bond_a))
    buyer = TradeBench(KEYS["B"].escrow_key(made.trade_id))
    first = arbiter.first_sign(made, point, split)
    raw, _ = buyer.complete(made, point, split, made.key_a, first)
    return parse_transaction("payout", raw)


def message(
    made: Contract,
    sender: Identity,
    recipient: bytes,
    payload: Payload,
    before: Message | None = None,
) -> Message:
    return Message(
        network=NET,
        kind=payload.kind,
        trade_id=made.trade_id,
        sender=sender.node_id,
        recipient=recipient,
        seq=before.seq + 1 if before else 0,
        prev=before.id if before else ZERO,
        seen=ZERO,
        tip_height=1,
        tip_hash=hashlib.sha256(b"tip").digest(),
        draw_no=0,
        payload=payload.wire(),
    ).signed(sender)


def chain(made: Contract, sender: Identity, *payloads: Payload) -> list[Message]:
    other = MAKER.node_id if sender is TAKER else TAKER.node_id
    made_so_far: list[Message] = []
    for payload in payloads:
        last = made_so_far[-1] if made_so_far else None
        made_so_far.append(message(made, sender, other, payload, last))
    return made_so_far


HEARING = Hearing(1)
