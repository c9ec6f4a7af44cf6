"""bdk behind the wallet: the keys, and a wallet loaded from what our chain proved.

bdk never talks to a server here. Each view of the chain becomes a changeset that a new
in-memory `Wallet` is loaded from, so there is no cache to damage and no phantom money: a
payment that left the chain is simply not in the next view. Descriptors are BIP 84; their
`repr` and that of their keys would show secrets, so they stay inside `Keys`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bdkpython as bdk

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.ports import Sighting, Tip
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    display,
    parse_transaction,
)

LOOKAHEAD: Final = 30  # scripts watched beyond the last one handed out
MATURITY: Final = 100
NETWORKS: Final = {
    "main": bdk.Network.BITCOIN,
    "testnet4": bdk.Network.TESTNET4,
    "signet": bdk.Network.SIGNET,
    "regtest": bdk.Network.REGTEST,
}
_CHAINS: Final = (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)


@dataclass(frozen=True, slots=True)
class Coin:
    """An output of ours. `height` 0 is unconfirmed; `mature` is false for a young coinbase."""

    outpoint: Outpoint
    value: int
    script: bytes
    height: int
    mature: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction of the history: what it changed for us, in sat."""

    txid: bytes
    height: int
    delta: int
    fee: int | None  # known only where every input was ours


@dataclass(frozen=True, slots=True)
class View:
    """What our chain showed of the wallet at one moment."""

    tip: Tip
    sightings: tuple[Sighting, ...]
    hashes: Mapping[int, bytes]  # of our blocks that hold a sighting
    unseen: tuple[bytes, ...]  # own transactions broadcast, not shown by the server yet
    revealed: tuple[int, int]  # addresses handed out of each keychain


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The wallet as of one view."""

    wallet: Any
    view: View
    unspent: tuple[Coin, ...]
    outputs: Mapping[Outpoint, Coin]  # every output of ours, spent ones too
    history: tuple[Entry, ...]


class Keys:
    """The wallet's two descriptors (BIP 84), from the seed words. Its repr shows nothing."""

    def __init__(self, words: str, network: Network) -> None:
        self.network = NETWORKS[network.bitcoin]
        kind = bdk.NetworkKind.MAIN if network.name == "main" else bdk.NetworkKind.TEST
        try:
            mnemonic = bdk.Mnemonic.from_string(words)
        except bdk.Bip39Error:
            raise InvalidRecord("words", "are not a BIP 39 seed phrase") from None
        root = bdk.DescriptorSecretKey(kind, mnemonic, None)
        self._descriptors = tuple(bdk.Descriptor.new_bip84(root, c, kind) for c in _CHAINS)
        self._genesis = network.genesis

    def __repr__(self) -> str:
        return "Keys(…)"

    def address(self, keychain: int, index: int) -> str:
        """Return the address at `index`."""
        return str(self._descriptors[keychain].derive_address(index, self.network))

    def script(self, keychain: int, index: int) -> bytes:
        """Return the output script at `index`."""
        address = self._descriptors[keychain].derive_address(index, self.network)
        return bytes(address.script_pubkey().to_bytes())

    def scripts(self, wanted: Collection[tuple[int, int]]) -> dict[bytes, tuple[int, int]]:
        """Return the scripts of many (keychain, index) pairs."""
        return {self.script(*place): place for place in wanted}

    def address_of(self, script: bytes) -> str:
        """Return a script's address, or its hex if it has none."""
        try:
            return str(bdk.Address.from_script(bdk.Script(script), self.network))
        except bdk.FromScriptError:
            return script.hex()

    def script_of(self, field: str, address: str) -> bytes:
        """Return the script of an address of this network. Raises InvalidRecord."""
        try:
            parsed = bdk.Address(address.strip()[:100], self.network)
        except bdk.AddressParseError:
            raise InvalidRecord(field, f"{address[:100]!r} is no address of this network") from None
        return bytes(parsed.script_pubkey().to_bytes())

    def snapshot(self, view: View) -> Snapshot:
        """Load bdk with a view and read the wallet out of it. Slow: run it in a thread."""
        wallet = self._load(view)
        raws = [s.raw for s in view.sightings] + list(view.unseen)
        coinbases = {tx.txid for tx in map(_parse, raws) if tx.inputs[0].outpoint.txid == bytes(32)}
        unspent = [_coin(o, view.tip.height, coinbases) for o in wallet.list_unspent()]
        outputs = [_coin(o, view.tip.height, coinbases) for o in wallet.list_output()]
        history = [_entry(wallet, tx) for tx in wallet.transactions()]
        return Snapshot(
            wallet=wallet,
            view=view,
            unspent=tuple(sorted(unspent, key=lambda c: (c.height or 1 << 31, c.outpoint))),
            outputs={coin.outpoint: coin for coin in outputs},
            history=tuple(sorted(history, key=lambda e: (-(e.height or 1 << 31), e.txid))),
        )

    def _load(self, view: View) -> Any:
        hashes = {0: bytes.fromhex(self._genesis)[::-1], **view.hashes}
        hashes[view.tip.height] = view.tip.hash
        blocks = {h: bdk.BlockHash.from_string(display(b)) for h, b in sorted(hashes.items())}
        anchors, last_seen, txs = [], {}, []
        for sighting in view.sightings:
            txs.append(bdk.Transaction(sighting.raw))
            txid = bdk.Txid.from_string(display(sighting.txid))
            if sighting.height:
                block = bdk.BlockId(height=sighting.height, hash=blocks[sighting.height])
                at = bdk.ConfirmationBlockTime(block_id=block, confirmation_time=0)
                anchors.append(bdk.Anchor(confirmation_block_time=at, txid=txid))
            else:
                last_seen[txid] = 2
        for raw in view.unseen:
            tx = bdk.Transaction(raw)
            txs.append(tx)
            last_seen[tx.compute_txid()] = 1  # what the server shows goes first
        external, internal = self._descriptors
        changes = bdk.ChangeSet.from_aggregate(
            external.as_public(),
            internal.as_public(),
            self.network,
            bdk.LocalChainChangeSet(
                changes=[bdk.ChainChange(height=h, hash=b) for h, b in blocks.items()]
            ),
            bdk.TxGraphChangeSet(
                txs=txs,
                txouts={},
                anchors=anchors,
                last_seen=last_seen,
                first_seen={},
                last_evicted={},
            ),
            bdk.IndexerChangeSet(
                last_revealed={
                    d.descriptor_id(): n - 1
                    for d, n in zip(self._descriptors, view.revealed, strict=True)
                    if n
                }
            ),
        )
        persister = bdk.Persister.custom(_Given(changes))
        return bdk.Wallet.load(external, internal, persister, LOOKAHEAD)


class _Given(bdk.Persistence):  # type: ignore[misc]
    """A persister that gives one changeset and keeps nothing."""

    def __init__(self, changes: Any) -> None:
        self._changes = changes

    def initialize(self) -> Any:
        """Return the changeset."""
        return self._changes

    def persist(self, changeset: Any) -> None:
        """Forget: the next view brings it again."""


def _parse(raw: bytes) -> Transaction:
    return parse_transaction("transaction", raw)


def outpoint_of(point: Any) -> Outpoint:
    """Return bdk's outpoint as ours."""
    return Outpoint(bytes.fromhex(str(point.txid))[::-1], point.vout)


def _height(position: Any) -> int:
    return position.confirmation_block_time.block_id.height if position.is_confirmed() else 0


def _coin(output: Any, tip: int, coinbases: Collection[bytes]) -> Coin:
    outpoint, height = outpoint_of(output.outpoint), _height(output.chain_position)
    return Coin(
        outpoint=outpoint,
        value=output.txout.value.to_sat(),
        script=bytes(output.txout.script_pubkey.to_bytes()),
        height=height,
        mature=outpoint.txid not in coinbases or (height > 0 and tip + 1 - height >= MATURITY),
    )


def _entry(wallet: Any, canonical: Any) -> Entry:
    details = wallet.tx_details(canonical.transaction.compute_txid())
    return Entry(
        txid=bytes.fromhex(str(details.txid))[::-1],
        height=_height(canonical.chain_position),
        delta=details.balance_delta,
        fee=None if details.fee is None else details.fee.to_sat(),
    )
