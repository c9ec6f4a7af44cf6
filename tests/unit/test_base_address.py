"""Segwit addresses against the vectors of BIP 173 and BIP 350."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnode.base import address
from p2pnode.base.errors import InvalidRecord

# BIP 350, "Test vectors for v0-v16 native segregated witness addresses" (valid)
VALID = [
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    (
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
    ),
    ("BC1SW50QGDZ25J", "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "5210751e76e8199196d454941c45d1b3a323"),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
]

# BIP 350, the invalid ones, and the reason we name
INVALID = [
    ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", "begin with"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "checksum"),
    ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", "checksum"),
    ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "checksum"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "checksum"),
    ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", "checksum"),
    ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", "begins with"),
    ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "version"),
    ("bc1pw5dgrnzv", "2 to 40"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav", "2 to 40"),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "20 or 32"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", "case"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "padding"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", "padding"),
    ("bc1gmk9yu", "begins with"),
]


@pytest.mark.parametrize(("text", "script"), VALID)
def test_a_valid_vector_decodes_and_encodes_back(text: str, script: str) -> None:
    hrp = text[:2].lower()
    assert address.decode("address", text, hrp).hex() == script
    assert address.encode(hrp, bytes.fromhex(script)) == text.lower()


@pytest.mark.parametrize(("text", "why"), INVALID)
def test_an_invalid_vector_is_refused_for_its_own_reason(text: str, why: str) -> None:
    hrp = "tb" if text.lower().startswith("tb") else "bc"
    with pytest.raises(InvalidRecord, match=why) as caught:
        address.decode("destination", text, hrp)
    assert caught.value.field == "destination"


def test_another_networks_address_is_refused_and_said_to_be() -> None:
    mainnet = address.encode("bc", b"\0\x14" + bytes(20))
    with pytest.raises(InvalidRecord, match="another network"):
        address.decode("address", mainnet, "bcrt")


@pytest.mark.parametrize(
    "value", [None, 5, b"bcrt1q", "", "bcrt1", "bcrt1q" + "q" * 100, "bcrt1éééé"]
)
def test_what_is_not_text_of_the_right_size_is_refused(value: object) -> None:
    with pytest.raises(InvalidRecord):
        address.decode("address", value, "bcrt")


@pytest.mark.parametrize(
    "script",
    [
        "",
        "51",
        "6a0401020304",
        "00150000",
        "0003000000",
        "76a914" + "00" * 20 + "88ac",
        "5101" + "00",
    ],
)
def test_only_witness_scripts_have_an_address(script: str) -> None:
    with pytest.raises(InvalidRecord):
        address.encode("bcrt", bytes.fromhex(script))


@given(version=st.integers(0, 16), program=st.binary(min_size=2, max_size=40))
def test_every_witness_program_round_trips(version: int, program: bytes) -> None:
    script = bytes([version and version + 0x50, len(program)]) + program
    if version == 0 and len(program) not in (20, 32):
        with pytest.raises(InvalidRecord):
            address.encode("bcrt", script)
        return
    assert address.decode("address", address.encode("bcrt", script), "bcrt") == script


@given(place=st.integers(5, 43), letter=st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_no_single_typing_error_passes(place: int, letter: str) -> None:
    right = address.encode("bcrt", b"\0\x14" + bytes(range(20)))
    wrong = right[:place] + letter + right[place + 1 :]
    if wrong != right:
        with pytest.raises(InvalidRecord):
            address.decode("address", wrong, "bcrt")


@given(st.text(max_size=95))
def test_any_text_decodes_or_raises_the_declared_error(text: str) -> None:
    with pytest.raises(InvalidRecord):
        address.decode("address", text, "bcrt")
