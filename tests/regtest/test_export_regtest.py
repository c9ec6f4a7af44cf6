"""What `trade export` gives is enough: bare bitcoind wallets spend the escrow, every way.

Two wallets with one secret key each import the descriptor, sign the PSBT, combine and
send; no code of ours signs or finalises. The backup branch is refused until the escrow
is n blocks old.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from escrow_tx_kit import BRANCHES, KEYS, ROLES, contract
from regtest_kit import Bitcoind, RpcError, bitcoind_program

from escrow.backend_signatures import first_sign
from escrow.contract import KIND_2OF3, KIND_BACKUP, Contract
from escrow.export import Choice, export
from escrow.payout import Branch, release, verdict_split
from escrow.script import escrow_address, escrow_script
from p2pnode.base.transaction import Outpoint, TxOut, parse_transaction

MADE = {kind: contract(escrow_kind=kind) for kind in (KIND_2OF3, KIND_BACKUP)}
PAIRS = list(combinations(range(3), 2))


class Bare:
    """Wallets of the node that know one secret key of one escrow each."""

    def __init__(self, node: Bitcoind) -> None:
        self.node = node
        self.known: set[str] = set()

    def fund(self, made: Contract) -> tuple[Outpoint, bytes]:
        """Pay an escrow from the node's own wallet, unconfirmed."""
        txid = self.node.fund(escrow_address(made), made.escrow_sat)
        raw = bytes.fromhex(self.node.rpc("gettransaction", txid)["hex"])
        tx = parse_transaction("funding", raw)
        paid = TxOut(made.escrow_sat, escrow_script(made))
        return Outpoint(tx.txid, tx.outputs.index(paid)), raw

    def sign(self, role: str, found: dict[str, Any], psbt: str) -> str:
        """Let the bare wallet of one key sign; it imports the descriptor first."""
        name = f"{found['escrow_kind']}-{role}"
        if name not in self.known:
            self.node.rpc("createwallet", name, False, True, wallet=None)
            request = {"desc": found["descriptor_with_secrets"], "timestamp": "now"}
            (done,) = self.node.rpc("importdescriptors", [request], wallet=name)
            assert done["success"], done
            self.known.add(name)
        answer = self.node.rpc("walletprocesspsbt", psbt, True, "ALL", False, False, wallet=name)
        (part,) = self.node.rpc("decodepsbt", answer["psbt"])["inputs"]
        assert KEYS[role].public.hex() in part["partial_signatures"]
        return str(answer["psbt"])

    def payout(
        self,
        case: "Case",
        roles: tuple[str, ...],
        name: str = "verdict",
    ) -> str:
        """Return the raw payout that these keys sign."""
        signed = []
        for role in roles:
            found = case.export(role)
            psbt = next(
                p["psbt"]
                for p in found["payouts"]
                if (p["name"], p["branch"]) == (name, case.branch.name.lower())
            )
            signed.append(self.sign(role, found, psbt))
        both = self.node.rpc("combinepsbt", signed) if len(signed) > 1 else signed[0]
        final = self.node.rpc("finalizepsbt", both)
        assert final["complete"], self.node.rpc("decodepsbt", both)
        return str(final["hex"])

    def send(self, raw: str) -> int:
        """Broadcast and confirm; return the virtual size."""
        txid = self.node.rpc("sendrawtransaction", raw)
        self.node.mine()
        found = self.node.rpc("getrawtransaction", txid, 1)
        assert found["confirmations"] == 1
        return int(found["vsize"])


class Case:
    """One funded escrow, to be spent on one branch."""

    def __init__(self, bare: Bare, made: Contract, branch: Branch) -> None:
        self.made, self.branch = made, branch
        self.outpoint, self.funding = bare.fund(made)
        self.extra: tuple[Choice, ...] = ()

    def export(self, role: str) -> dict[str, Any]:
        ruled = Choice(
            name="verdict", split=verdict_split(self.made, 123_456, self.branch), branch=self.branch
        )
        own = {KEYS[role].public: KEYS[role].wif()}
        choices = (ruled, *self.extra)
        return export(self.made, self.outpoint, self.funding, choices, secrets=own)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """A node of its own: n blocks are more than its neighbours' Electrum server should read."""
    with Bitcoind(bitcoind_program(), tmp_path_factory.mktemp("bare")) as node:
        yield Bare(node)


def test_a_watching_wallet_finds_the_escrow(bare: Bare) -> None:
    for made in MADE.values():
        case = Case(bare, made, Branch.MAIN)
        bare.node.mine()
        found = case.export("B")
        name = f"{made.escrow_kind}-watch"
        bare.node.rpc("createwallet", name, True, True, wallet=None)
        request = {"desc": found["descriptor"], "timestamp": 0}
        (done,) = bare.node.rpc("importdescriptors", [request], wallet=name)
        assert done["success"], done
        coins = bare.node.rpc("listunspent", wallet=name)
        assert f"{coins[0]['txid']}:{coins[0]['vout']}" == found["outpoint"]
        assert [coin["address"] for coin in coins] == [found["address"]]


def test_two_bare_wallets_spend_every_kind_and_branch(bare: Bare) -> None:
    cases = {
        (kind, branch, pair): Case(bare, MADE[kind], branch)
        for kind, branch in BRANCHES
        for pair in PAIRS
    }
    last = Case(bare, MADE[KIND_BACKUP], Branch.BACKUP)
    bare.node.mine()
    sizes: dict[Any, set[int]] = {}
    late = {}
    for (kind, branch, pair), case in cases.items():
        roles = tuple(ROLES[branch][n] for n in pair)
        raw = bare.payout(case, roles)
        if branch is Branch.BACKUP:
            with pytest.raises(RpcError, match="non-BIP68-final"):
                bare.node.rpc("sendrawtransaction", raw)
            late[pair] = raw
            continue
        sizes.setdefault((kind, branch), set()).add(bare.send(raw))
    n = MADE[KIND_BACKUP].n
    age = (
        bare.node.rpc("getblockcount")
        - bare.node.rpc(
            "getblockheader", bare.node.rpc("gettransaction", _txid(last))["blockhash"]
        )["height"]
    )
    bare.node.leap(n - 2 - age)  # in the next block the escrow is n - 1 old
    for raw in late.values():
        with pytest.raises(RpcError, match="non-BIP68-final"):
            bare.node.rpc("sendrawtransaction", raw)
    bare.node.mine()
    for raw in late.values():
        sizes.setdefault((KIND_BACKUP, Branch.BACKUP), set()).add(bare.send(raw))
    # a verdict of three outputs, one of 34 bytes; a low-R signature is a byte of weight shorter
    for key, found in sizes.items():
        assert found <= set(SIZES[key]), (key, found)
    # our own first signature, as RECEIVED carries it, and one bare wallet
    pair = first_sign(last.made, last.outpoint, release(last.made), KEYS["S2"], Branch.BACKUP)
    signed = {KEYS["S2"].public: pair}
    last.extra = (
        Choice(name="release", split=release(last.made), branch=Branch.BACKUP, signatures=signed),
    )
    bare.send(bare.payout(last, ("B2",), "release"))


SIZES = {
    (KIND_2OF3, Branch.MAIN): (219, 220),
    (KIND_BACKUP, Branch.MAIN): (247, 248),
    (KIND_BACKUP, Branch.BACKUP): (248, 249),
}


def _txid(case: Case) -> str:
    return str(case.outpoint).partition(":")[0]
