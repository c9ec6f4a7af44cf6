"""Receipts of made-up trades in made-up blocks: whole, signed by real keys, cheap to make."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from escrow_tx_kit import contract as any_contract
from escrow_tx_kit import wpkh
from trade_facts import h, identity, schnorr, secret

from escrow.contract import KIND_2OF3, KIND_BACKUP, Contract, backup_blocks
from escrow.funding import FundingInput, FundingSide, build_funding
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import ContractSigned, Payload
from escrow.payloads import Received as Release
from escrow.payout import Branch, Split, build_payout, payout_rates, release, verdict_split
from escrow.receipt import By, Ended, Funding, Payout, Receipt, Said
from p2pnode.base.networks import NETWORKS, Network
from p2pnode.base.transaction import Outpoint, merkle_branch, merkle_root

NET = NETWORKS["sandbox"]
T0 = 1_700_000_000  # of block 0
DAY_BLOCKS = 144


class Blocks:
    """One's own chain as receipts are checked against it: a block every ten minutes."""

    def __init__(self, tip: int = 100 * DAY_BLOCKS) -> None:
        self.tip = tip
        self.txids: dict[int, list[bytes]] = {}
        self.salts: dict[int, str] = {}  # of blocks that took another's place

    @property
    def now(self) -> int:
        return self.mtp(self.tip)

    def put(self, txid: bytes, height: int) -> None:
        block = self.txids.setdefault(height, [h(f"coinbase {height}"), h(f"other {height}")])
        block.append(txid)

    def place(self, txid: bytes, height: int) -> dict[str, Any]:
        block = self.txids[height]
        at = block.index(txid)
        return {"height": height, "position": at, "branch": merkle_branch(block, at)}

    def reorg(self, height: int, drop: bytes = b"") -> None:
        """Put another block there, with the same transactions but one."""
        self.salts[height] = self.salts.get(height, "") + "'"
        self.txids[height] = [t for t in self.txids.get(height, []) if t != drop]

    def block_hash(self, height: int) -> bytes | None:
        if not 0 <= height <= self.tip:
            return None
        return h(f"block {height}{self.salts.get(height, '')}")

    def merkle_root(self, height: int) -> bytes | None:
        if not 0 <= height <= self.tip:
            return None
        return merkle_root(self.txids.get(height) or [h(f"coinbase {height}")])

    def mtp(self, height: int) -> int:
        return T0 + 600 * height


@dataclass
class Deal:
    """A trade that took place: who, when (height of its funding), how it ended."""

    blocks: Blocks
    maker: str = "maker"
    taker: str = "taker"
    height: int = 40 * DAY_BLOCKS
    number: int = 0  # tells trades of the same two apart
    by: By = By.RECEIVED
    buyer_sat: int | None = None  # of a verdict
    raised: int = 0
    network: Network = NET
    kind: str = KIND_2OF3
    after: int = 1  # blocks from funding to payout
    mined: bool = True

    @property
    def name(self) -> str:
        return f"{self.maker}/{self.taker}/{self.height}/{self.number}"

    def contract(self, **change: Any) -> Contract:
        values: dict[str, Any] = {
            "network": self.network,
            "trade_id": h(f"trade {self.name}"),
            "maker": identity(self.maker, self.network).node_id,
            "taker": identity(self.taker, self.network).node_id,
            "arbiter": identity("arbiter 0", self.network).node_id,
            "runner_up": identity("arbiter 1", self.network).node_id,
            "key_b": self.key("B").public_key.format(),
            "key_s": self.key("S").public_key.format(),
            "key_a": secret("key of A").public_key.format(),
            "anchor_h": self.height - 6,
            "escrow_kind": self.kind,
        }
        if self.kind == KIND_BACKUP:
            values |= {f"key_{k}2": secret(f"{k}2").public_key.format() for k in "bsa"}
            values["n"] = backup_blocks(86_400)
        return any_contract(**(values | change))

    def key(self, side: str) -> Any:
        return secret(f"{side} of {self.name}")

    def funding(self, contract: Contract) -> Any:
        def side(who: str, sat: int) -> FundingSide:
            point = Outpoint(h(f"coin of {who} for {self.name}"), 0)
            return FundingSide((FundingInput(point, sat, wpkh(f"coin {who}")),), wpkh(f"{who} ch"))

        return build_funding(contract, side("b", 400_000), side("s", 900_000))

    def split(self, contract: Contract) -> tuple[Split, Branch]:
        branch = Branch.BACKUP if self.by is By.BACKUP else Branch.MAIN
        if self.by is By.RECEIVED:
            return release(contract), branch
        buyer_sat = contract.amount_sat if self.buyer_sat is None else self.buyer_sat
        return verdict_split(contract, buyer_sat, branch), branch

    def signed(self, kind: Kind, sender: str, recipient: str, payload: bytes, **more: Any) -> Any:
        who = identity(sender, self.network)
        values: dict[str, Any] = {
            "network": self.network,
            "kind": kind,
            "trade_id": h(f"trade {self.name}"),
            "sender": who.node_id,
            "recipient": identity(recipient, self.network).node_id,
            "seq": 3,
            "prev": h("before"),
            "seen": h("heard"),
            "tip_height": self.height,
            "tip_hash": h("tip"),
            "draw_no": 0,
            "payload": payload,
        }
        return Message(**(values | more)).signed(who)

    def said(self, contract: Contract, sender: str) -> Said:
        other = self.taker if sender == self.maker else self.maker
        side = "B" if identity(sender, self.network).node_id == contract.buyer else "S"
        signature = schnorr(self.key(side), contract.hash)
        payload: Payload = ContractSigned(contract=contract.wire(), signature=signature)
        message = self.signed(Kind.CONTRACT, sender, other, payload.wire())
        return Said(escrow_signature=signature, **lines(message))

    def end(self, contract: Contract) -> Ended:
        buyer, seller = (
            (self.taker, self.maker) if contract.maker_is_seller else (self.maker, self.taker)
        )
        if self.by is By.RECEIVED:
            words = Release(signatures=(bytes(70), bytes(71))).wire()
            message = self.signed(Kind.RECEIVED, seller, buyer, words)
        else:
            judge = f"arbiter {int(self.by is By.BACKUP)}"
            message = self.signed(Kind.VERDICT, judge, buyer, b"\x90")
        return Ended(
            by=int(self.by),
            to=0,
            payload_hash=hashlib.sha256(message.payload).digest(),
            **lines(message),
        )

    def receipt(self, **change: Any) -> Receipt:
        """Mine both transactions and return the receipt of the trade."""
        contract = self.contract(**change)
        funding = self.funding(contract)
        split, branch = self.split(contract)
        rate = payout_rates(contract)[self.raised]
        paid = build_payout(contract, funding.escrow_outpoint, split, rate, branch).tx.txid
        if self.mined:
            self.blocks.put(funding.tx.txid, self.height)
            self.blocks.put(paid, self.height + self.after)
            places = (
                self.blocks.place(funding.tx.txid, self.height),
                self.blocks.place(paid, self.height + self.after),
            )
        else:
            nowhere = {"position": 0, "branch": ()}
            places = ({"height": self.height} | nowhere, {"height": self.height + 1} | nowhere)
        return Receipt(
            contract=contract,
            maker=self.said(contract, self.maker),
            taker=self.said(contract, self.taker),
            ended=self.end(contract),
            funding=Funding(transaction=funding.tx.serialize(witness=False), **places[0]),
            payout=Payout(
                buyer_sat=split.buyer_sat,
                seller_sat=split.seller_sat,
                arbiter_sat=split.arbiter_sat,
                raised=self.raised,
                **places[1],
            ),
        )


def lines(message: Message) -> dict[str, Any]:
    names = ("seq", "prev", "seen", "tip_height", "tip_hash", "signature")
    return {name: getattr(message, name) for name in names}


@cache
def who(name: str, network: Network = NET) -> bytes:
    return identity(name, network).node_id


def deal(blocks: Blocks, maker: str, taker: str, day: int, **more: Any) -> Receipt:
    """A trade of two, so many days before the tip; two of one day need a `number`."""
    height = blocks.tip - day * DAY_BLOCKS - 8 + more.get("number", 0) % 7
    return Deal(blocks, maker, taker, height, **more).receipt()


__all__ = ["NET", "ZERO", "Blocks", "By", "Deal", "deal", "lines", "replace", "who"]
