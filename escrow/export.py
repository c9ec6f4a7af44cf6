"""A trade for any other wallet: descriptor, payouts as PSBTs, transcript.

What `trade export` prints. With one's words (or the descriptor with one's secret keys in
it) and these PSBTs, two of the three parties move the escrow without this program:
Bitcoin Core's `importdescriptors`, `walletprocesspsbt`, `combinepsbt`, `finalizepsbt`.
The payouts are those that `payout.build_payout` makes, so a signature made elsewhere
serves a node too. Pure. Formats: descriptors BIP 380 to 383 and 379, PSBT BIP 174, paths
BIP 32; JSON as in docs/cli.md, values in satoshi, rates in sat/vB, ids in hex.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from escrow.contract import KIND_BACKUP, Contract
from escrow.keys import (
    ARBITRATION_ACCOUNT,
    BACKUP_ACCOUNT,
    ESCROW_ACCOUNT,
    arbiter_path,
    bound_path,
    path_text,
    trade_path,
)
from escrow.payout import (
    Branch,
    Split,
    build_payout,
    check_first_signatures,
    payout_rates,
    refund,
    release,
)
from escrow.psbt import PsbtInput, build
from escrow.script import (
    descriptor,
    escrow_address,
    escrow_script,
    kind,
    sequence,
    witness_script,
)
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, TxOut, display, parse_transaction

VERSION: Final = 1
_INPUT_CHARSET: Final = (
    "0123456789()[],'/*abcdefgh@:$%{}"
    "IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~"
    'ijklmnopqrstuvwxyzABCDEFGH`#"\\ '
)
_CHECKSUM_CHARSET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)

Signatures = Mapping[bytes, tuple[bytes, bytes]]  # pairs at both rates, by public key


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A split to export, and the first signatures on it that are at hand."""

    name: str
    split: Split
    branch: Branch = Branch.MAIN
    signatures: Signatures = field(default_factory=dict)


def with_checksum(text: str) -> str:
    """Return a descriptor with its checksum (BIP 380), as wallets want it."""
    symbols: list[int] = []
    groups: list[int] = []
    for char in text:
        value = _INPUT_CHARSET.index(char)
        symbols.append(value & 31)
        groups.append(value >> 5)
        if len(groups) == 3:
            symbols.append(groups[0] * 9 + groups[1] * 3 + groups[2])
            groups.clear()
    if groups:
        symbols.append(groups[0] if len(groups) == 1 else groups[0] * 3 + groups[1])
    check = 1
    for symbol in [*symbols, *[0] * 8]:
        top = check >> 35
        check = (check & 0x7FFFFFFFF) << 5 ^ symbol
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    check ^= 1
    return f"{text}#" + "".join(_CHECKSUM_CHARSET[check >> 5 * n & 31] for n in range(7, -1, -1))


def branches(contract: Contract) -> tuple[Branch, ...]:
    """Return the branches of a contract's escrow kind."""
    return tuple(Branch)[: len(kind(contract).input_weights)]


def export(
    contract: Contract,
    outpoint: Outpoint,
    funding_raw: bytes,
    choices: Sequence[Choice] = (),
    *,
    messages: Iterable[bytes] = (),
    secrets: Mapping[bytes, str] | None = None,
) -> dict[str, Any]:
    """Return everything that another wallet needs of a funded trade, ready for JSON.

    RELEASE and REFUND are there on every branch of the kind; a choice of the same name and
    branch takes their place, any other is added. `messages` is the transcript, as received
    and sent; `secrets` (WIF by public key) go into a second descriptor, for import into a
    wallet of one's own. Raises InvalidRecord for a funding that does not pay this escrow, a
    split that is none, or a signature that is not good.
    """
    funding = parse_transaction("funding", funding_raw)
    paid = TxOut(contract.escrow_sat, escrow_script(contract))
    if funding.txid != outpoint.txid or paid not in funding.outputs[outpoint.vout :][:1]:
        raise InvalidRecord("funding", "does not pay this contract's escrow at the outpoint")
    usual = (("release", release(contract)), ("refund", refund(contract)))
    chosen = {
        (name, branch): Choice(name=name, split=split, branch=branch)
        for branch in branches(contract)
        for name, split in usual
    }
    chosen |= {(choice.name, choice.branch): choice for choice in choices}
    made: dict[str, Any] = {
        "version": VERSION,
        "network": contract.network.name,
        "trade_id": contract.trade_id.hex(),
        "contract": contract.wire().hex(),
        "contract_hash": contract.hash.hex(),
        "escrow_kind": contract.escrow_kind,
        "descriptor": with_checksum(descriptor(contract)),
        "address": escrow_address(contract),
        "outpoint": str(outpoint),
        "escrow_sat": contract.escrow_sat,
        "backup_after_blocks": contract.n,
        "funding": funding_raw.hex(),
        "keys": _keys(contract),
        "payouts": [
            payout
            for choice in chosen.values()
            for payout in _payouts(contract, outpoint, funding_raw, choice)
        ],
        "messages": [raw.hex() for raw in messages],
    }
    if secrets:
        made["descriptor_with_secrets"] = with_checksum(descriptor(contract, secrets))
    return made


def _payouts(
    contract: Contract, outpoint: Outpoint, funding_raw: bytes, choice: Choice
) -> list[dict[str, Any]]:
    """Return a split's payout at each of its rates, the signatures at hand put in."""
    for public, pair in choice.signatures.items():
        check_first_signatures(contract, outpoint, choice.split, public, pair, choice.branch)
    found = []
    for n, rate in enumerate(dict.fromkeys(payout_rates(contract))):
        payout = build_payout(contract, outpoint, choice.split, rate, choice.branch)
        part = PsbtInput(
            payout.prevout,
            previous=funding_raw,
            witness_script=witness_script(contract),
            partial={public: pair[n] for public, pair in choice.signatures.items()},
        )
        found.append(
            {
                "name": choice.name,
                "branch": choice.branch.name.lower(),
                "rate": rate,
                "buyer_sat": payout.buyer_sat_paid,
                "seller_sat": payout.seller_sat_paid,
                "arbiter_sat": payout.arbiter_sat_paid,
                "fee_sat": payout.fee_sat,
                "sequence": sequence(contract, choice.branch),
                "txid": display(payout.tx.txid),
                "signed_by": sorted(public.hex() for public in choice.signatures),
                "psbt": build(payout.tx, [part]),
            }
        )
    return found


def _keys(contract: Contract) -> list[dict[str, str]]:
    """Return each key: whose, of which branch, and its path below its owner's words."""
    network, path = contract.network, trade_path(contract.trade_id)

    def trader(account: int) -> str:
        plain = bound_path(contract.trade_id, network) if account == ESCROW_ACCOUNT else ()
        return path_text(network, [account, *path], plain)

    def arbiter(bond: bytes) -> str:
        plain = arbiter_path(contract.seed, bond, network)
        return path_text(network, [ARBITRATION_ACCOUNT], plain)

    rows = [
        ("buyer", "main", contract.key_b, trader(ESCROW_ACCOUNT)),
        ("seller", "main", contract.key_s, trader(ESCROW_ACCOUNT)),
        ("arbiter", "main", contract.key_a, arbiter(contract.bond_a)),
    ]
    if contract.escrow_kind == KIND_BACKUP:
        rows += [
            ("buyer", "backup", contract.key_b2, trader(BACKUP_ACCOUNT)),
            ("seller", "backup", contract.key_s2, trader(BACKUP_ACCOUNT)),
            ("runner_up", "backup", contract.key_a2, arbiter(contract.bond_a2)),
        ]
    return [
        {"role": role, "branch": branch, "public_key": key.hex(), "path": where}
        for role, branch, key, where in rows
    ]
