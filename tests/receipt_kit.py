"""Receipts of made-up trades in made-up blocks: whole, signed by real keys, cheap to make."""

import hashlib
import hmac
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from escrow_tx_kit import contract as any_contract
from escrow_tx_kit import wpkh
from trade_facts import Play, h, identity, schnorr, secret

from escrow.contract import KIND_2OF3, KIND_BACKUP, Contract, backup_blocks
from escrow.funding import FundingInput, FundingSide, build_funding
from escrow.keys import bound_path
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import ContractSigned, Payload
from escrow.payloads import Received as Release
from escrow.payout import Branch, Split, build_payout, payout_rates, release, verdict_split
from escrow.receipt import Receipt
from escrow.receipt_parts import By, Ended, Funding, Payout, Root, Said, Taken
from p2pnode.base import wire
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
            "maker": identity(self.maker, self.network).node_id,
            "taker": identity(self.taker, self.network).node_id,
            "arbiter": identity("arbiter 0", self.network).node_id,
            "runner_up": identity("arbiter 1", self.network).node_id,
            "key_a": secret("key of A").public_key.format(),
            "anchor_h": self.height - 6,
            "escrow_kind": self.kind,
        }
        if self.kind == KIND_BACKUP:
            values |= {f"key_{k}2": secret(f"{k}2").public_key.format() for k in "bsa"}
            values["n"] = backup_blocks(86_400)
        values |= change
        trade_id = change.get("trade_id") or self.take_id(values["maker"], values["taker"])
        values["trade_id"] = trade_id
        for name, side in (("key_b", "B"), ("key_s", "S")):
            values.setdefault(name, self.key(side, trade_id).public_key.format())
        return any_contract(**values)

    @property
    def take(self) -> Taken:
        return Taken(
            tip_height=self.height - 1,
            tip_hash=h("tip of the taker"),
            draw_no=self.number,
            payload_hash=h(f"what was taken {self.name}"),
        )

    def take_id(self, maker: bytes = b"", taker: bytes = b"") -> bytes:
        """The id of the TAKE's header: all that the trade's id commits to."""
        maker = maker or identity(self.maker, self.network).node_id
        taker = taker or identity(self.taker, self.network).node_id
        said = self.take.array()
        body = (1, int(Kind.TAKE), ZERO, taker, maker, 0, ZERO, ZERO, *said)
        return wire.digest(wire.tag(self.network.name, "message"), body)

    def root(self, side: str = "B") -> Root:
        point = secret(f"{side} of {self.name}").public_key.format()
        return Root(point=point, chain_code=h(f"{side} of {self.name}, chain code"))

    def key(self, side: str, trade_id: bytes = b"") -> Any:
        above = secret(f"{side} of {self.name}"), self.root(side).chain_code
        return bound_secret(*above, trade_id or self.take_id(), self.network)

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
            "trade_id": self.take_id(),
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
        signature = schnorr(self.key(side, contract.trade_id), contract.hash)
        payload: Payload = ContractSigned(contract=contract.wire(), signature=signature)
        about = {"trade_id": contract.trade_id}
        message = self.signed(Kind.CONTRACT, sender, other, payload.wire(), **about)
        return Said(escrow_signature=signature, **lines(message))

    def end(self, contract: Contract) -> Ended:
        about = {"trade_id": contract.trade_id}
        buyer, seller = (
            (self.taker, self.maker) if contract.maker_is_seller else (self.maker, self.taker)
        )
        if self.by is By.RECEIVED:
            words = Release(signatures=(bytes(70), bytes(71))).wire()
            message = self.signed(Kind.RECEIVED, seller, buyer, words, **about)
        else:
            judge = f"arbiter {int(self.by is By.BACKUP)}"
            message = self.signed(Kind.VERDICT, judge, buyer, b"\x90", **about)
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
            root=self.root(),
            take=self.take,
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


def bound_secret(key: Any, chain_code: bytes, trade_id: bytes, network: Network) -> Any:
    """The escrow key of a trade by private derivation (BIP 32, CKDpriv, not hardened)."""
    for index in bound_path(trade_id, network):
        data = key.public_key.format() + index.to_bytes(4, "big")
        digest = hmac.digest(chain_code, data, "sha512")
        key, chain_code = key.add(digest[:32]), digest[32:]
    return key


class BoundPlay(Play):
    """A trade whose traders' escrow keys are bound to it, as those of nodes are."""

    def root(self, who: Any) -> tuple[bytes, bytes]:
        name = self.name(who)
        return secret(f"escrow of {name}").public_key.format(), h(f"chain code of {name}")

    def key(self, who: Any) -> Any:
        take = next((m for m in self.messages if m.kind is Kind.TAKE), None)
        if take is None:  # his TAKE says nothing of it
            return super().key(who)
        return bound_secret(super().key(who), self.root(who)[1], take.id, NET)


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
