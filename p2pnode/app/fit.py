"""Where the rooms meet: the order book, the wallet and the DHT fitted to the trade's ports.

The only place that turns an `Offer` into trade `Terms`, and that knows under which DHT key
each kind of record lies. No decisions here: shapes of one room into shapes of another.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dht import letters, mailbox
from dht.keys import record_key, shard_of
from dht.records import Bounds, Kinds, Record
from dht.shell_mailbox import Mailbox
from dht.shell_node import Dht
from escrow.arbiters import ArbiterRecord
from escrow.backend_wallet import BdkWallet
from escrow.bargain import Policy
from escrow.broken import MAX_BYTES as BROKEN_BYTES
from escrow.broken import Filed
from escrow.funding import FundingInput
from escrow.needs import Disclosure, Letter, Line
from escrow.payloads import Declared
from escrow.terms import Terms
from orderbook import limits, market_server
from orderbook.accounts import Account, check_disclosure
from orderbook.currencies import exponent
from orderbook.methods import METHODS
from orderbook.offer import Offer, Side, offer_record
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from p2pnode.app.crowd import SERVER_BOUNDS, server_validator
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, PeerFault, Unreachable
from p2pnode.base.history import History
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint

OFFER: Final = "offer"
ARBITER: Final = "arbiter"
SLACK_BP: Final = 100  # between two views of one market
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


def terms_of(offer: Offer, method: str, price: int) -> Terms:
    """Return what the trade needs of an offer for one of its methods, at the price it has now.

    Raises InvalidRecord for a method that it does not name, and for no price (0): it follows
    a reference that is not known.
    """
    if method not in offer.methods:
        raise InvalidRecord("method", f"is none of {', '.join(offer.methods)}")
    if not price:
        raise InvalidRecord("price", "this node knows no reference now")
    return Terms(
        offer_hash=offer.hash,
        maker=offer.maker,
        maker_is_seller=int(offer.side is Side.SELL),
        currency=offer.currency,
        exponent=exponent(offer.currency),
        min_sat=offer.min_sat,
        max_sat=offer.max_sat,
        price=price,
        slack_bp=SLACK_BP if offer.floating else 0,
        method=method,
        period_s=METHODS[method].period_s,
        dep_b_bp=offer.dep_b_bp,
        dep_s_bp=offer.dep_s_bp,
        escrow_kinds=offer.escrow_kinds,
    )


def narrowed(terms: Terms, most_sat: int) -> Terms:
    """Return the terms with what the buyer's history allows by their method at the most.

    Raises InvalidRecord where that is less than the offer's least.
    """
    if most_sat < terms.min_sat:
        raise InvalidRecord(
            "amount_sat",
            f"is at most {most_sat} by {terms.method} for what is proven of the buyer, and this "
            f"offer is for {terms.min_sat} at the least",
        )
    return replace(terms, max_sat=min(most_sat, terms.max_sat))


def check_history(offer: Offer, peer: History, now: int) -> None:
    """Raise InvalidRecord for a counterparty that has not proven what the offer asks."""
    for field, proven, asked in (
        ("peer_trades", peer.trades, offer.peer_trades),
        ("peer_days", peer.days(now), offer.peer_days),
    ):
        if proven < asked:
            raise InvalidRecord(field, f"is {proven} as far as is proven; {asked} are asked for")


def disclosure(account: Account, network: Network, salt: bytes) -> Disclosure:
    """Return an account under a fresh salt, as contract and ACCOUNT message carry it."""
    return Disclosure(wire.pack(account.disclose(salt)), account.account_hash(network, salt))


class OfferDesk:
    """The order book's side of a trade."""

    def __init__(self, maker: Maker, accounts: AccountStore, network: Network) -> None:
        self._maker, self._accounts, self._network = maker, accounts, network

    def terms(self, offer_hash: bytes, method: str, peer: bytes, *, price: int = 0) -> Terms | None:
        """Return our own offer's terms to a peer while it is current and free.

        `price` stands in for that of a floating offer while no reference is known.

        Raises InvalidRecord, with our own value, for what it does not allow this peer.
        """
        maker = self._maker
        try:
            offer, own = maker.own_version(offer_hash)
        except NotFound:
            return None
        if not own.enabled or offer.withdrawn or maker.crossed(own):
            return None
        theirs, now = maker.histories.history(peer), maker.clock.now()
        check_history(offer, theirs, now)
        reference = maker.references.reference(offer.currency)
        terms = terms_of(offer, method, offer.price_at(reference) or price)
        sells = offer.side is Side.SELL
        buyer = theirs if sells else maker.histories.history(maker.node_id)
        terms = narrowed(terms, limits.most_sat(method, buyer, now, maker.caps))
        try:
            self._accounts.get(own.accounts[method])
        except NotFound:
            raise InvalidRecord("method", f"{method} cannot be used now") from None
        return terms

    def offer_id(self, offer_hash: bytes) -> bytes:
        """Return which own offer a version is of; empty for none."""
        try:
            return self._maker.own_version(offer_hash)[0].offer_id
        except NotFound:
            return b""

    def is_open(self, offer_id: bytes) -> bool:
        """Tell whether an own offer can be taken now."""
        try:
            return self._maker.own(offer_id).enabled
        except NotFound:
            return False

    def policy(self, offer_id: bytes) -> Policy:
        """Return how this node answers proposals for an own offer."""
        own = self._maker.own(offer_id).answers
        return Policy(accept_bp=own.accept_bp, counter_bp=own.counter_bp, otherwise=own.otherwise)

    def disclosure(self, offer_hash: bytes, method: str, salt: bytes) -> Disclosure:
        """Return the account that our offer has for a method, under a fresh salt."""
        _, own = self._maker.own_version(offer_hash)
        return disclosure(self._accounts.get(own.accounts[method]), self._network, salt)

    def check(self, raw: bytes, account_hash: bytes, method: str) -> None:
        """Check a peer's disclosure against the contract. Raises InvalidRecord."""
        array = wire.unpack("disclosure", raw, limit=4096)
        if check_disclosure(array, account_hash, self._network)[0] != method:
            raise InvalidRecord("disclosure", f"is not an account of {method}")

    def reserve(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Take our offer out of the book. Raises LocalFault if another trade has it."""
        try:
            offer, _ = self._maker.own_version(offer_hash)
        except NotFound:
            raise LocalFault("the offer has expired meanwhile", field="offer_hash") from None
        self._maker.reserve(offer.offer_id, trade_id)

    def release(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Put it back if this trade had reserved it."""
        self._maker.release(trade_id)


def details(raw: bytes, account_hash: bytes, network: Network) -> str:
    """Return a disclosed account's details for people. Raises InvalidRecord."""
    array = wire.unpack("disclosure", raw, limit=4096)
    return check_disclosure(array, account_hash, network)[1]
