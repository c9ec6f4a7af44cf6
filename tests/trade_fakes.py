"""What a trading node asks for beside streams, faked or counted: clock, registry, desk, keys."""

import hashlib
from collections.abc import Sequence
from typing import Any

import trio
import trio.testing
from trade_post import NET

from escrow.backend_keys import TradeKey, TradeKeys
from escrow.backend_wallet import BdkWallet
from escrow.bargain import Policy
from escrow.broken import Filed
from escrow.needs import Disclosure
from escrow.terms import Terms
from p2pnode.app.fit import WalletPurse
from p2pnode.base import wire
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import InvalidRecord, LocalFault, Unreachable


class SetClock:
    """Wall-clock time that moves when the test says so."""

    def __init__(self) -> None:
        self.time = SystemClock().now()

    def now(self) -> int:
        return self.time


class Registry:
    """The DHT's arbiters' records, as one list; `hidden` ones are not shown to this node."""

    def __init__(self, records: list[bytes]) -> None:
        self._records = records
        self.hidden: set[bytes] = set()

    async def find(self) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        return [raw for raw in self._records if raw not in self.hidden]

    async def publish(self, raw: bytes) -> int:
        await trio.lowlevel.checkpoint()
        if raw not in self._records:
            self._records.append(raw)
        return 4


class Board:
    """The DHT's broken draws: whatever was put, under the number that its filing names."""

    def __init__(self) -> None:
        self.filed: dict[tuple[bytes, int], dict[bytes, bytes]] = {}
        self.away = False  # nobody answers
        self.lies: list[bytes] = []  # what holders show beside it
        self.asked: list[tuple[bytes, int]] = []
        self.puts = 0

    async def put(self, raw: bytes) -> int:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unreachable("nobody is there")
        self.puts += 1
        filed = Filed.from_wire(raw, NET)
        self.filed.setdefault((filed.node_id, filed.draw_no), {})[filed.trade_id] = raw
        return 4

    async def under(self, node_id: bytes, draw_no: int) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        self.asked.append((node_id, draw_no))
        if self.away:
            await trio.sleep_forever()
        return [*self.filed.get((node_id, draw_no), {}).values(), *self.lies]


def disclose(name: str, salt: bytes) -> Disclosure:
    raw = wire.pack((f"account of {name}", salt))
    return Disclosure(raw, hashlib.sha256(raw).digest())


class Desk:
    """The order book's side: offers by hash, and who has reserved which."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.offers: dict[bytes, Terms] = {}
        self.reserved: dict[bytes, bytes] = {}
        self.policies: dict[bytes, Policy] = {}
        self.versions: dict[bytes, bytes] = {}  # a refreshed offer's hash: its first one's

    def terms(self, offer_hash: bytes, method: str, peer: bytes, *, price: int = 0) -> Terms | None:
        return None if offer_hash in self.reserved else self.offers.get(offer_hash)

    def offer_id(self, offer_hash: bytes) -> bytes:
        known = self.versions.get(offer_hash, offer_hash)
        return known if known in self.offers else b""

    def is_open(self, offer_id: bytes) -> bool:
        return offer_id in self.offers and offer_id not in self.reserved

    def policy(self, offer_id: bytes) -> Policy:
        return self.policies.get(offer_id, Policy())

    def disclosure(self, offer_hash: bytes, method: str, salt: bytes) -> Disclosure:
        return disclose(self._name, salt)

    def check(self, raw: bytes, account_hash: bytes, method: str) -> None:
        if hashlib.sha256(raw).digest() != account_hash:
            raise InvalidRecord("disclosure", "is not the account of the contract")

    def reserve(self, offer_hash: bytes, trade_id: bytes) -> None:
        if self.reserved.setdefault(offer_hash, trade_id) != trade_id:
            raise LocalFault("the offer is in another trade", field="offer_hash")

    def release(self, offer_hash: bytes, trade_id: bytes) -> None:
        if self.reserved.get(offer_hash) == trade_id:
            del self.reserved[offer_hash]


class _CountedKey(TradeKey):
    """Counts each time that a secret is used."""

    __slots__ = ("_count",)

    def __init__(self, secret: bytes, count: list[str]) -> None:
        super().__init__(secret, NET)
        self._count = count

    def sign_schnorr(self, message: bytes) -> bytes:
        self._count.append("schnorr")
        return super().sign_schnorr(message)

    def wif(self) -> str:
        self._count.append("payout")
        return super().wif()


class CountedKeys(TradeKeys):
    def __init__(self, words: str, count: list[str]) -> None:
        super().__init__(words, NET)
        self._count = count

    def _key(self, hardened: Sequence[int], plain: Sequence[int] = ()) -> TradeKey:
        secret = bytes(self._derive(hardened, plain).secret_bytes())
        return _CountedKey(secret, self._count)


class CountedPurse(WalletPurse):
    def __init__(self, wallet: BdkWallet, count: list[str]) -> None:
        super().__init__(wallet)
        self._count = count

    def sign_psbt(self, psbt: str, only: Any) -> str:
        self._count.append("coins")
        return super().sign_psbt(psbt, only)
