"""What the tests of scripts, funding and payouts share: keys, a contract, coins, real wallets."""

import hashlib
from collections.abc import Sequence
from typing import Any

import bdkpython as bdk

from escrow import contract as rules
from escrow.backend_keys import TradeKey, TradeKeys
from escrow.contract import Contract
from escrow.funding import Funding, FundingInput, FundingSide, build_funding
from escrow.keys import arbiter_public
from escrow.script import Branch, p2wpkh
from p2pnode.base.networks import NETWORKS, Network
from p2pnode.base.transaction import Outpoint

NET = NETWORKS["regtest"]
TRADE = hashlib.sha256(b"trade").digest()
SEED = hashlib.sha256(b"seed of the draw").digest()
BOND = hashlib.sha256(b"arbiter").digest() + b"\xff" * 4
BOND2 = hashlib.sha256(b"runner-up").digest() + b"\xff" * 4
WORDS = {
    "B": "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
    "S": "legal winner thank year wave sausage worth useful legal winner thank yellow",
    "A": "letter advice cage absurd amount doctor acoustic avoid letter advice cage above",
    "A2": "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong",
}
RATES = (1, 2, 5, 60)


def h(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def trade_key(role: str, trade: bytes = TRADE, network: Network = NET) -> TradeKey:
    """The key of B, S or A, or of B2, S2 or A2 in the backup branch."""
    keys = TradeKeys(WORDS["A2" if role == "A2" else role[0]], network)
    if role[0] == "A":
        return keys.arbiter_key(SEED, BOND2 if role == "A2" else BOND)
    return keys.backup_key(trade) if role.endswith("2") else keys.escrow_key(trade)


KEYS = {role: trade_key(role) for role in ("B", "S", "A", "B2", "S2", "A2")}
ROLES = {Branch.MAIN: ("B", "S", "A"), Branch.BACKUP: ("B2", "S2", "A2")}
BRANCHES = (  # every way of spending an escrow
    (rules.KIND_2OF3, Branch.MAIN),
    (rules.KIND_BACKUP, Branch.MAIN),
    (rules.KIND_BACKUP, Branch.BACKUP),
)


def contract(**change: Any) -> Contract:
    """A contract of the plain kind unless told otherwise; n follows kind and period."""
    network = change.get("network", NET)
    values: dict[str, Any] = {
        "network": network,
        "trade_id": TRADE,
        "offer_hash": h("offer"),
        "reveal_id": h("reveal"),
        "seed": SEED,
        "maker": h("maker"),
        "taker": h("taker"),
        "maker_is_seller": 1,
        "amount_sat": 500_000,
        "currency": "EUR",
        "fiat_minor": 30_000,
        "method": "CUSTOM",
        "dep_b": 50_000,
        "dep_s": 75_000,
        "escrow_kind": rules.KIND_2OF3,
        "key_b": KEYS["B"].public,
        "key_s": KEYS["S"].public,
        "key_a": KEYS["A"].public,
        "key_b2": b"",
        "key_s2": b"",
        "key_a2": b"",
        "n": 0,
        "arbiter": BOND[:32],
        "runner_up": BOND2[:32],
        "bond_a": BOND,
        "bond_a2": BOND2,
        "fee_a": 4_000,
        "fee_a2": 5_000,
        "script_b": p2wpkh(b"\x02" + h("payout of B")),
        "script_s": b"\x51\x20" + h("payout of S"),
        "rate": 2,
        "anchor_h": 250,
        "fund_by": 400,
        "depth": 1,
        "period_s": 86_400,
        "reply_s": rules.REPLY_S,
        "verdict_s": rules.VERDICT_S,
        "account_hash_b": h("account of B"),
        "account_hash_s": h("account of S"),
    }
    if change.get("escrow_kind") == rules.KIND_BACKUP:
        values |= {f"key_{role.lower()}": KEYS[role].public for role in ROLES[Branch.BACKUP]}
        values["n"] = rules.backup_blocks(change.get("period_s", values["period_s"]))
    values |= change
    if "anchor_h" in change:
        values["fund_by"] = change["anchor_h"] + rules.FUND_WITHIN
    if "amount_sat" in change:
        values["depth"] = rules.depth_for(change["amount_sat"])
    return Contract(**values)


def coin(name: str, value: int, script: bytes) -> FundingInput:
    return FundingInput(Outpoint(h(f"coin {name}"), 1), value, script)


def wpkh(name: str) -> bytes:
    return p2wpkh(b"\x02" + h(name))


def taproot(name: str) -> bytes:
    return b"\x51\x20" + h(name)


class BdkWallet:
    """A real descriptor wallet (BIP 84 or 86) that signs what it finds to be its own."""

    def __init__(self, words: str, *, tap: bool = False) -> None:
        make = bdk.Descriptor.new_bip86 if tap else bdk.Descriptor.new_bip84
        test = bdk.NetworkKind.TEST
        secret = bdk.DescriptorSecretKey(test, bdk.Mnemonic.from_string(words), None)
        chains = (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)
        self._wallet = bdk.Wallet(
            *(make(secret, keychain, test) for keychain in chains),
            bdk.Network.REGTEST,
            bdk.Persister.new_in_memory(),
        )
        self._wallet.reveal_addresses_to(bdk.KeychainKind.EXTERNAL, 20)
        self.finalize = True

    def script(self, n: int) -> bytes:
        found = self._wallet.peek_address(bdk.KeychainKind.EXTERNAL, n).address
        return bytes(found.script_pubkey().to_bytes())

    def sign(self, text: str) -> str:
        psbt = bdk.Psbt(text)
        options = bdk.SignOptions(
            trust_witness_utxo=True,
            assume_height=None,
            allow_all_sighashes=False,
            try_finalize=self.finalize,
            sign_with_tap_internal_key=True,
            allow_grinding=True,
        )
        self._wallet.sign(psbt, options)
        return psbt.serialize()


def side(
    wallet: BdkWallet, name: str, values: Sequence[int], change: bytes | None = None
) -> FundingSide:
    coins = tuple(coin(f"{name}{n}", value, wallet.script(n)) for n, value in enumerate(values))
    return FundingSide(coins, change or wallet.script(15))


def joint(
    made: Contract,
    buyer: tuple[BdkWallet, Sequence[int]],
    seller: tuple[BdkWallet, Sequence[int]],
) -> Funding:
    return build_funding(made, side(buyer[0], "b", buyer[1]), side(seller[0], "s", seller[1]))


def published_arbiter_key(network: Network = NET) -> bytes:
    point, chain_code = TradeKeys(WORDS["A"], network).arbitration_account()
    return arbiter_public(point, chain_code, SEED, BOND, network)
