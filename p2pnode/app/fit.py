"""Where the rooms meet: the wallet and the DHT fitted to the trade's and the book's ports.

The only place that knows under which DHT key each kind of record lies. No decisions here:
shapes of one room into shapes of another. The order book's side of a trade: `app.desk`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dht import letters, mailbox
from dht.keys import record_key, shard_of
from dht.records import Bounds, Kinds, Record
from dht.shell_mailbox import Mailbox
from dht.shell_node import Dht
from escrow.arbiters import ArbiterRecord
from escrow.backend_wallet import BdkWallet
from escrow.broken import MAX_BYTES as BROKEN_BYTES
from escrow.broken import Filed
from escrow.funding import FundingInput
from escrow.needs import Letter, Line
from escrow.payloads import Declared
from orderbook import market_server
from orderbook.offer import offer_record
from p2pnode.app.crowd import SERVER_BOUNDS, server_validator
from p2pnode.base.errors import PeerFault, Unreachable
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint

OFFER: Final = "offer"
ARBITER: Final = "arbiter"
ARBITER_LIFE_S: Final = 2 * 3600  # a holder keeps a record this long after its last put
BROKEN: Final = "broken"
BROKEN_LIFE_S: Final = 7 * 86_400  # the same: who cares puts it again every day
BROKEN_BOUNDS: Final = Bounds(record_bytes=BROKEN_BYTES, per_key=8, share=0.1, passed_on=False)


def kinds(network: Network) -> Kinds:
    """Return the record kinds that this node stores and believes."""

    def offer(raw: bytes, now: int) -> Record:
        found = offer_record(raw, network=network, now=now)
        key = record_key(network, OFFER, found.market, shard_of(found.owner, network))
        return Record(
            OFFER, key, found.owner, found.id, found.seq, found.expires_at, raw, found.rank
        )

    def arbiter(raw: bytes, now: int) -> Record:
        found = ArbiterRecord.from_wire(raw, network)
        key = record_key(network, ARBITER, "", shard_of(found.node_id, network))
        expires_at = now + ARBITER_LIFE_S
        return Record(ARBITER, key, found.node_id, b"", found.at_height, expires_at, raw)

    def broken(raw: bytes, now: int) -> Record:
        filed = Filed.from_wire(raw, network)
        key = broken_key(network, filed.node_id, filed.draw_no)
        # Owned by its trade: it has one place under a number, and fills no trader's quota.
        return Record(BROKEN, key, filed.trade_id, b"", 0, now + BROKEN_LIFE_S, raw)

    found = Kinds({OFFER: offer})
    found.register(ARBITER, arbiter, Bounds(passed_on=False))  # it lives from its last put on
    found.register(mailbox.KIND, mailbox.validator(network), mailbox.BOUNDS)
    found.register(BROKEN, broken, BROKEN_BOUNDS)
    found.register(market_server.KIND, server_validator(network), SERVER_BOUNDS)
    return found


class DhtRecords:
    """Records of one kind in the DHT, over all its shards."""

    def __init__(self, dht: Dht, network: Network, kind: str) -> None:
        self._dht, self._network, self._kind = dht, network, kind

    async def put(self, raw: bytes) -> int:
        """Put a record; returns how many nodes hold it now."""
        return (await self._dht.put(self._kind, raw)).acked

    async def find(self, market: str = "") -> tuple[bytes, ...]:
        """Return every record of a market, from all shards."""
        found: list[bytes] = []
        for shard in range(self._network.shards):
            key = record_key(self._network, self._kind, market, shard)
            found += [r.raw for r in (await self._dht.get(self._kind, key)).records]
        return tuple(found)

    async def publish(self, raw: bytes) -> int:
        """Put a record; the trade's name for it."""
        return await self.put(raw)


def broken_key(network: Network, node_id: bytes, draw_no: int) -> bytes:
    """Return the DHT key of the broken draws that a node entered under that number."""
    return record_key(network, BROKEN, f"{node_id.hex()}/{draw_no}")


class DhtBroken:
    """Broken draws in the DHT: put under their signers' numbers, looked up by number."""

    def __init__(self, dht: Dht, network: Network) -> None:
        self._dht, self._network = dht, network

    async def put(self, raw: bytes) -> int:
        """Put a filed entry; returns how many nodes hold it."""
        return (await self._dht.put(BROKEN, raw)).acked

    async def under(self, node_id: bytes, draw_no: int) -> tuple[bytes, ...]:
        """Return what holders have under a node's number."""
        key = broken_key(self._network, node_id, draw_no)
        return tuple(r.raw for r in (await self._dht.get(BROKEN, key)).records)


@dataclass(frozen=True, slots=True)
class Found:
    """A letter as the trade reads it, around the mailbox's own."""

    line: Line
    payload: bytes
    letter: letters.Letter


class TradeMailbox:
    """The DHT's mailbox as a trade may use it."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    def post(self, line: Line, number: int, payload: bytes, *, word: bool) -> None:
        """Have a letter lie there until it is seen."""
        self._box.post(_line(line), number, payload, word=word)

    def seen(self, line: Line, number: int) -> None:
        """Take away our letters up to that number."""
        self._box.seen(_line(line), number)

    def applied(self, letter: Letter) -> None:
        """Take away a letter that was applied or refused."""
        if isinstance(letter, Found):  # it came from `collect`
            self._box.applied(letter.letter)

    async def collect(self, lines: Sequence[Line], *, words: bool) -> tuple[Found, ...]:
        """Return the letters of these lines; with `words` also strangers'."""
        found = await self._box.collect([_line(one) for one in lines], words=words)
        return tuple(
            Found(Line(x.line.peer, x.line.trade_id, x.line.since), x.payload, x) for x in found
        )

    def counts(self) -> dict[str, int]:
        """Return how many entries wait to be seen, and how many deletions to be put."""
        return self._box.counts()


def _line(line: Line) -> letters.Line:
    return letters.Line(line.peer, line.trade_id, line.since)


class WalletPurse:
    """The wallet as a trade may touch it."""

    def __init__(self, wallet: BdkWallet) -> None:
        self._wallet = wallet

    async def spendable(self) -> tuple[FundingInput, ...]:
        """Return confirmed coins that no trade has locked."""
        try:
            await self._wallet.sync()
        except PeerFault as error:  # the chain server's fault, not the trading peer's
            raise Unreachable(f"the wallet cannot be read from the chain: {error}") from None
        return tuple(FundingInput(c.outpoint, c.value, c.script) for c in self._wallet.coins())

    async def fresh_script(self) -> bytes:
        """Return the output script of an address never given out before."""
        return self._wallet.script_for_payout()

    async def change_script(self) -> bytes:
        """Return a script of the change keychain never given out before."""
        return self._wallet.change_script()

    async def pay(self, script: bytes, sat: int, rate: int | None, most_bytes: int) -> bytes:
        """Pay an output script by a transaction of so many bytes at most; returns its txid."""
        address = self._wallet.address_of(script)
        return await self._wallet.send(address, sat, rate, most_bytes=most_bytes)

    async def declared(self, outpoint: Outpoint) -> Declared:
        """Return the proof that a coin of ours exists."""
        proof = await self._wallet.declared(outpoint)
        return Declared(
            outpoint=outpoint.wire(),
            prev_tx=proof.stripped,
            height=proof.height,
            position=proof.position,
            branch=proof.branch,
        )

    def sign_psbt(self, psbt: str, only: Collection[int]) -> str:
        """Sign these inputs of a PSBT."""
        return self._wallet.sign_psbt(psbt, only)

    def owns(self, script: bytes) -> bool:
        """Tell whether a script is of our wallet."""
        return self._wallet.owns_script(script)
