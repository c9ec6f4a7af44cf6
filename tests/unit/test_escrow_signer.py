"""Payouts are signed by any two of three; nothing else is signed, nothing wrong is completed."""

from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest
from coincurve import PrivateKey
from embit import ec
from embit.script import Script
from embit.transaction import Transaction as EmbitTx
from escrow_tx_kit import (
    BOND,
    BRANCHES,
    KEYS,
    NET,
    ROLES,
    SEED,
    TRADE,
    WORDS,
    contract,
    h,
    published_arbiter_key,
    trade_key,
)

from escrow import backend_consensus, backend_signatures
from escrow.backend_bench import TradeBench
from escrow.backend_keys import TradeKey, TradeKeys
from escrow.backend_signatures import Opinions, complete, first_sign
from escrow.contract import KIND_BACKUP, Contract
from escrow.keys import ORDER, check_ecdsa_form
from escrow.payout import (
    Branch,
    Split,
    build_payout,
    check_first_signature,
    check_first_signatures,
    payout_rates,
    release,
    verdict_split,
)
from escrow.script import descriptor, witness_script, witness_stack
from escrow.sighash import sighash as own_sighash
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault, SecondOpinionDiffers
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Outpoint, parse_transaction

POINT = Outpoint(h("funding"), 1)
MADE = contract()
SPLITS = {"release": release(MADE), "verdict": verdict_split(MADE, 123_456)}


def sign_by_hand(sighash_type: int, key: TradeKey, split: Split | None = None) -> bytes:
    """Sign as a modified client could: any sighash, by a library that refuses nothing."""
    payout = build_payout(MADE, POINT, split or SPLITS["release"])
    tx = EmbitTx.parse(payout.tx.serialize())
    script = Script(witness_script(MADE))
    digest = tx.sighash_segwit(0, script, MADE.escrow_sat, sighash_type)
    secret = ec.PrivateKey.from_wif(key.wif())
    return secret.sign(digest).serialize() + bytes([sighash_type])


@pytest.mark.parametrize(("first", "second"), list(permutations(range(3), 2)))
@pytest.mark.parametrize(("kind", "branch"), BRANCHES)
@pytest.mark.parametrize("name", SPLITS)
def test_any_two_of_three_complete(
    first: int, second: int, kind: str, branch: Branch, name: str
) -> None:
    made = contract(escrow_kind=kind)
    split = release(made) if name == "release" else verdict_split(made, 123_456, branch)
    one, other = (KEYS[ROLES[branch][n]] for n in (first, second))
    pair = first_sign(made, POINT, split, one, branch)
    assert check_first_signatures(made, POINT, split, one.public, pair, branch) == pair
    finals = complete(made, POINT, split, other, one.public, pair, branch)
    for rate, final in zip(payout_rates(made), finals, strict=True):
        payout = build_payout(made, POINT, split, rate, branch)
        assert final.txid == payout.tx.txid
        assert parse_transaction("tx", final.serialize()) == final
        assert final.inputs[0].sequence == (made.n if branch else 0xFFFFFFFD)
        backend_consensus.verify_transaction(final, [payout.prevout])
        predicted = payout.fee_sat * 4 / rate
        assert predicted - 8 <= final.weight <= predicted  # a grinded signature is a byte less


def test_payouts_have_the_sizes_the_design_measured() -> None:
    """Of two P2WPKH outputs; low-R signatures are a byte shorter than the weight says."""
    sizes = {}
    for kind, branch in BRANCHES:
        made = contract(escrow_kind=kind, script_s=b"\x00\x14" + h("s")[:20])
        _, seller, arbiter = (KEYS[role] for role in ROLES[branch])
        pair = first_sign(made, POINT, release(made), arbiter, branch)
        finals = complete(made, POINT, release(made), seller, arbiter.public, pair, branch)
        sizes[kind, branch] = finals[0].vsize
    assert sizes == dict(zip(BRANCHES, (177, 205, 206), strict=True))


@pytest.mark.parametrize("pair", list(combinations(range(3), 2)))
@pytest.mark.parametrize("sequence", [0, 1, "n - 1", 0xFFFFFFFD, 0x8000_0000, 1 << 22])
def test_the_backup_branch_is_shut_before_its_time(
    pair: tuple[int, int], sequence: int | str
) -> None:
    """Core refuses every pair at a smaller sequence, or one that switches BIP 68 off."""
    made = contract(escrow_kind=KIND_BACKUP)
    payout = build_payout(made, POINT, release(made), None, Branch.BACKUP)
    for age in (made.n, made.n - 1 if isinstance(sequence, str) else sequence):
        tx = replace(payout.tx, inputs=(replace(payout.tx.inputs[0], sequence=age),))
        digest = own_sighash(tx, 0, [payout.prevout], witness_script(made))
        keys = [KEYS[ROLES[Branch.BACKUP][n]] for n in pair]
        signatures = {
            key.public: ec.PrivateKey.from_wif(key.wif()).sign(digest).serialize() + b"\x01"
            for key in keys
        }
        stack = witness_stack(made, signatures, Branch.BACKUP)
        final = replace(tx, inputs=(replace(tx.inputs[0], witness=stack),))
        if age == made.n:
            backend_consensus.verify_transaction(final, [payout.prevout])
        else:
            with pytest.raises(InvalidRecord, match=r"inputs\[0\]"):
                backend_consensus.verify_transaction(final, [payout.prevout])


def test_keys_of_one_branch_do_not_open_the_other() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    for branch, other in ((Branch.MAIN, Branch.BACKUP), (Branch.BACKUP, Branch.MAIN)):
        key, peer = KEYS[ROLES[other][0]], KEYS[ROLES[branch][1]]
        with pytest.raises(LocalFault, match="no key of that escrow"):
            first_sign(made, POINT, release(made), key, branch)
        pair = first_sign(made, POINT, release(made), peer, branch)
        with pytest.raises(InvalidRecord, match="signatures"):
            check_first_signatures(made, POINT, release(made), peer.public, pair, other)
        with pytest.raises(PeerFault, match="no other key"):
            complete(made, POINT, release(made), key, peer.public, pair, other)
    with pytest.raises(InvalidRecord, match="branch"):
        first_sign(MADE, POINT, release(MADE), KEYS["B2"], Branch.BACKUP)


def test_the_bench_takes_the_key_of_the_branch() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    trader = TradeBench(KEYS["B"], backup_key=KEYS["B2"])
    runner_up = TradeBench(KEYS["A2"])
    split = verdict_split(made, 1_000, Branch.BACKUP)
    pair = runner_up.first_sign(made, POINT, split, Branch.BACKUP)
    finals = trader.complete(made, POINT, split, KEYS["A2"].public, pair, Branch.BACKUP)
    for rate, raw in zip(payout_rates(made), finals, strict=True):
        payout = build_payout(made, POINT, split, rate, Branch.BACKUP)
        final = parse_transaction("tx", raw)
        backend_consensus.verify_transaction(final, [payout.prevout])
    for bad in (pair[::-1], (pair[0], pair[0]), pair[:1], (b"", b"")):
        with pytest.raises(PeerFault, match="signatures"):
            trader.complete(made, POINT, split, KEYS["A2"].public, bad, Branch.BACKUP)


def test_equal_rates_make_the_same_signature_twice() -> None:
    made = contract(rate=156)
    pair = first_sign(made, POINT, release(made), KEYS["S"])
    assert pair[0] == pair[1]


def test_signing_twice_gives_the_same_bytes() -> None:
    split = SPLITS["release"]
    assert first_sign(MADE, POINT, split, KEYS["S"]) == first_sign(MADE, POINT, split, KEYS["S"])


# ------------------------------------------------------------------ a peer's bad signature


def low(made: Contract, key: TradeKey, split: Split | None = None, at: Outpoint = POINT) -> bytes:
    """The signature at the contract's own rate."""
    return first_sign(made, at, split or SPLITS["release"], key)[0]


def bad_signatures() -> dict[str, Any]:
    good = low(MADE, KEYS["S"])
    der = check_ecdsa_form("signature", good)
    r_end = 4 + der[3]
    s = int.from_bytes(der[r_end + 2 :], "big")
    high = (ORDER - s).to_bytes(33, "big")
    high_der = der[2:r_end] + b"\x02" + bytes([len(high)]) + high
    other_trade = replace(MADE, trade_id=h("another trade"), key_b=trade_key("B", h("x")).public)
    flipped = bytearray(good)
    flipped[20] ^= 1
    release_split = SPLITS["release"]
    shifted = Split(release_split.buyer_sat - 1, release_split.seller_sat + 1, 0)
    return {
        "high S": b"\x30" + bytes([len(high_der)]) + high_der + b"\x01",
        "sighash NONE": sign_by_hand(2, KEYS["S"]),
        "sighash SINGLE": sign_by_hand(3, KEYS["S"]),
        "sighash ALL|ANYONECANPAY": sign_by_hand(0x81, KEYS["S"]),
        "sighash NONE|ANYONECANPAY": sign_by_hand(0x82, KEYS["S"]),
        "NONE relabelled as ALL": sign_by_hand(2, KEYS["S"])[:-1] + b"\x01",
        "without a sighash byte": good[:-1],
        "a flipped bit": bytes(flipped),
        "by the buyer himself": low(MADE, KEYS["B"]),
        "by the arbiter": low(MADE, KEYS["A"]),
        "of another outpoint": low(MADE, KEYS["S"], at=Outpoint(POINT.txid, 0)),
        "of another trade": low(other_trade, KEYS["S"]),
        "of another split": low(MADE, KEYS["S"], shifted),
        "at another rate": first_sign(MADE, POINT, release_split, KEYS["S"])[1],
        "paying a foreign output": low(
            replace(MADE, script_b=b"\x00\x14" + h("thief")[:20]), KEYS["S"]
        ),
        "empty": b"",
        "zeros": bytes(72),
        "long": good + b"\x01",
        "a 65-byte Taproot one": bytes(64) + b"\x01",
        "padded DER": b"\x30" + bytes([der[1] + 1]) + der[2:] + b"\0" + b"\x01",
        "not bytes": "3044",
        "nothing": None,
    }


@pytest.mark.parametrize("name", bad_signatures())
def test_a_bad_first_signature_is_refused(name: str) -> None:
    signature = bad_signatures()[name]
    split, public = SPLITS["release"], KEYS["S"].public
    with pytest.raises(InvalidRecord, match="signature"):
        check_first_signature(MADE, POINT, split, None, public, signature)
    good = first_sign(MADE, POINT, split, KEYS["S"])
    for n, pair in enumerate(((signature, good[1]), (good[0], signature))):
        if n and name == "at another rate":
            continue  # it is the good one there
        with pytest.raises(InvalidRecord, match="signature"):
            check_first_signatures(MADE, POINT, split, public, pair)
        with pytest.raises(PeerFault, match="signature") as caught:
            complete(MADE, POINT, split, KEYS["B"], public, pair)
        assert caught.value.field == f"signatures[{n}]"


def test_one_key_cannot_be_both_signers() -> None:
    split = SPLITS["release"]
    own = first_sign(MADE, POINT, split, KEYS["B"])
    with pytest.raises(PeerFault, match="no other key"):
        complete(MADE, POINT, split, KEYS["B"], KEYS["B"].public, own)
    stranger = trade_key("B", h("other"))
    with pytest.raises(PeerFault, match="no other key"):
        complete(MADE, POINT, split, KEYS["B"], stranger.public, own)
    with pytest.raises(LocalFault, match="no key of that escrow"):
        first_sign(MADE, POINT, split, stranger)


@pytest.mark.parametrize(
    ("split", "rate", "field"),
    [
        (Split(0, 0, 0), None, "split"),
        (Split(625_000, 0, 1), None, "arbiter_sat"),
        (Split(-1, 625_001, 0), None, "buyer_sat"),
        (Split(625_000, -1, 0), None, "seller_sat"),
        (Split(2**63, 0, 0), None, "buyer_sat"),
        (Split(621_001, 0, 4_000), None, "split"),
        (Split(620_999, 0, 4_000), None, "split"),
        (release(MADE), 3, "rate"),
        (release(MADE), 0, "rate"),
        (release(MADE), -2, "rate"),
        (release(MADE), 2**70, "rate"),
        (release(MADE), True, "rate"),
    ],
)
def test_no_number_out_of_bounds_is_signed(split: Split, rate: int | None, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        build_payout(MADE, POINT, split, rate)
    assert caught.value.field == field
    if rate is not None:
        return  # nobody names a rate to a signer
    with pytest.raises(InvalidRecord) as caught:
        first_sign(MADE, POINT, split, KEYS["S"])
    assert caught.value.field == field


# ------------------------------------------------------------------ second opinions


def refuse(*_: Any) -> None:
    raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")


DIFFERING = {
    "address": Opinions(address=lambda _: "bcrt1qother"),
    "sighash": Opinions(sighash=lambda *_: bytes(32)),
    "consensus": Opinions(consensus=refuse),
}


@pytest.mark.parametrize("role", "BSA")
@pytest.mark.parametrize("name", ["address", "sighash"])
def test_a_differing_opinion_stops_a_first_signer(role: str, name: str) -> None:
    with pytest.raises(SecondOpinionDiffers) as caught:
        first_sign(MADE, POINT, SPLITS["verdict"], KEYS[role], opinions=DIFFERING[name])
    assert (caught.value.field, caught.value.code) == (name, "second_opinion")


@pytest.mark.parametrize("role", "BS")
@pytest.mark.parametrize("name", DIFFERING)
def test_a_differing_opinion_stops_a_completer(role: str, name: str) -> None:
    split, public = SPLITS["verdict"], KEYS["A"].public
    good = first_sign(MADE, POINT, split, KEYS["A"])
    with pytest.raises(SecondOpinionDiffers) as caught:
        complete(MADE, POINT, split, KEYS[role], public, good, opinions=DIFFERING[name])
    assert caught.value.field == name


@pytest.mark.parametrize(("kind", "branch"), BRANCHES)
def test_a_signing_library_that_reads_another_script_stops_us(
    kind: str, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bdk compiles our descriptor; what it makes of it must be our script."""
    made = contract(escrow_kind=kind, trade_id=h(f"only here {kind} {branch}"))
    other = contract(escrow_kind=kind, key_s=trade_key("S", h("x")).public)
    asked = []

    def another(_: Contract, *rest: Any) -> str:
        asked.append(rest)
        return descriptor(other)

    monkeypatch.setattr(backend_signatures, "descriptor", another)
    with pytest.raises(SecondOpinionDiffers, match="signing library") as caught:
        first_sign(made, POINT, release(made), KEYS[ROLES[branch][0]], branch)
    assert caught.value.field == "address"
    assert asked


# ------------------------------------------------------------------ keys


def test_keys_hide_their_secret() -> None:
    key = KEYS["B"]
    shown = f"{key!r} {key} {TradeKeys(WORDS['B'], NETWORKS['regtest'])!r}"
    assert key.wif() not in shown
    assert key.public.hex() in shown
    assert "abandon" not in shown
    with pytest.raises(TypeError):
        import pickle

        pickle.dumps(key)


def test_a_trade_key_belongs_to_one_trade_and_one_wallet() -> None:
    roles = ("B", "S", "B2", "S2")
    keys = {trade_key(role, trade).public for role in roles for trade in (TRADE, h("2"), h("3"))}
    assert len(keys) == 12
    assert trade_key("B").public == KEYS["B"].public


@pytest.mark.parametrize("name", NETWORKS)
def test_everyone_derives_the_arbiters_key_that_he_holds(name: str) -> None:
    network = NETWORKS[name]
    assert published_arbiter_key(network) == trade_key("A", network=network).public


def test_derivation_matches_another_implementation() -> None:
    from embit import bip32, bip39

    from escrow.keys import arbiter_path, bound_path, trade_path

    root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(WORDS["B"]))
    for purpose, role in ((0, "B"), (1, "B2")):
        path = [8383, 1, purpose, *trade_path(TRADE)]
        node = root.derive([step | 1 << 31 for step in path])
        if not purpose:
            node = node.derive(list(bound_path(TRADE, NET)))
        assert node.key.get_public_key().sec() == KEYS[role].public
    root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(WORDS["A"]))
    account = root.derive([step | 1 << 31 for step in (8383, 1, 2)])
    node = account.derive(list(arbiter_path(SEED, BOND, NET)))
    assert node.key.get_public_key().sec() == KEYS["A"].public


def test_schnorr_is_deterministic_and_strict() -> None:
    from escrow.keys import verify_schnorr

    key, message = TradeKeys(WORDS["A"], NETWORKS["sandbox"]).arbitration_key(), h("record")
    signature = key.sign_schnorr(message)
    assert signature == key.sign_schnorr(message)
    verify_schnorr(key.public, message, signature, "key_sig")
    secret = PrivateKey(bytes(31) + b"\x03")  # BIP 340, test vector 0
    assert (
        secret.sign_schnorr(bytes(32), bytes(32)).hex()
        == "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca8215"
        "25f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0"
    )
    for public, text, bad in (
        (key.public, h("other"), signature),
        (KEYS["B"].public, message, signature),
        (key.public, message, signature[:-1]),
        (key.public, message, bytes(64)),
        (b"\x02" + b"\xff" * 32, message, signature),
        (key.public, message, None),
    ):
        with pytest.raises(InvalidRecord, match="key_sig"):
            verify_schnorr(public, text, bad, "key_sig")
