"""The keystore opens for its owner, on its network, unaltered; else a clear error, no change."""

import os
import pickle

import pytest

from p2pnode.base import keystore as ks
from p2pnode.base import wire
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    Misconfigured,
    NodeError,
    StorageFault,
    WrongPassphrase,
)
from p2pnode.base.identity import works
from p2pnode.base.networks import NETWORKS
from p2pnode.base.secret import Secret

NET = NETWORKS["sandbox"]
PASS = "correct horse"
WORDS = "abandon " * 11 + "about"
# BIP 39: the words of sixteen zero bytes; their seed without passphrase
SEED = (
    "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1"
    "9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keystore"


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keystore"
    ks.create(path, NET, PASS, bytes(16))
    return path.read_bytes()


def test_it_opens_again(path):
    made = ks.create(path, NET, PASS, bytes(16))
    opened = ks.open_keystore(path, NET, PASS)
    assert opened.mnemonic.reveal() == made.mnemonic.reveal() == WORDS
    assert opened.seed.reveal().hex() == SEED
    assert opened.identity.node_id == made.identity.node_id
    assert works(NET, opened.identity.node_id)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["keystore"]


def test_words_restore_the_same_node(path, tmp_path):
    made = ks.create(path, NET, PASS, b"\x17" * 16)
    words = "  " + made.mnemonic.reveal().upper().replace(" ", "\n ")
    again = ks.restore(tmp_path / "again", NET, "another pass", words)
    assert again.identity.node_id == made.identity.node_id


@pytest.mark.parametrize(
    "words",
    [
        "",
        WORDS[:-6],
        WORDS + " about",
        "abandon " * 12,
        WORDS.replace("about", "abaut"),
        "x" * 5000,
    ],
)
def test_bad_words_are_refused_and_nothing_is_written(path, words):
    with pytest.raises(InvalidRecord) as caught:
        ks.restore(path, NET, PASS, words)
    assert caught.value.field == "words"
    assert "abandon" not in str(caught.value)
    assert not path.exists()


def test_it_is_never_overwritten(path, blob):
    path.write_bytes(blob)
    with pytest.raises(LocalFault):
        ks.create(path, NET, PASS, b"\1" * 16)
    assert path.read_bytes() == blob
    assert os.listdir(path.parent) == ["keystore"]


def test_a_wrong_passphrase(path, blob):
    path.write_bytes(blob)
    with pytest.raises(WrongPassphrase):
        ks.open_keystore(path, NET, PASS + " ")
    assert path.read_bytes() == blob


def test_the_same_passphrase_from_another_keyboard(path):
    ks.create(path, NET, "caf\u00e9 au lait", bytes(16))
    assert ks.open_keystore(path, NET, "cafe\u0301 au lait")


@pytest.mark.parametrize("cut", [0, 1, 10, 40, 80, -16, -1])
def test_a_short_file_is_refused(path, blob, cut):
    path.write_bytes(blob[:cut])
    with pytest.raises(InvalidRecord):
        ks.open_keystore(path, NET, PASS)
    assert path.read_bytes() == blob[:cut]


def test_any_altered_byte_is_noticed(path, blob):
    header = len(blob) - 190
    for at in (*range(header), header, len(blob) - 100, len(blob) - 17, len(blob) - 1):
        altered = bytearray(blob)
        altered[at] ^= 1
        path.write_bytes(altered)
        with pytest.raises(NodeError):
            ks.open_keystore(path, NET, PASS)
        assert path.read_bytes() == altered


def test_another_networks_keystore(path, blob):
    path.write_bytes(blob)
    with pytest.raises(Misconfigured, match="sandbox"):
        ks.open_keystore(path, NETWORKS["regtest"], PASS)
    array = list(wire.unpack("k", blob, limit=1024))
    array[1] = "regtest"  # a forged name is not believed either
    path.write_bytes(wire.pack(array))
    with pytest.raises(WrongPassphrase):
        ks.open_keystore(path, NETWORKS["regtest"], PASS)


@pytest.mark.parametrize(
    ("at", "value"), [(3, 11), (3, 0), (4, ks.MAX_MEMORY + 1), (4, 1024), (2, "md5"), (0, 2)]
)
def test_a_cost_beyond_its_bounds_is_refused_before_it_is_paid(path, blob, at, value):
    array = list(wire.unpack("k", blob, limit=1024))
    array[at] = value
    path.write_bytes(wire.pack(array))
    with pytest.raises(InvalidRecord):
        ks.open_keystore(path, NET, PASS)


def test_no_file_and_foreign_files(path):
    with pytest.raises(Misconfigured, match="init"):
        ks.open_keystore(path, NET, PASS)
    path.write_bytes(os.urandom(5000))
    with pytest.raises(InvalidRecord):
        ks.open_keystore(path, NET, PASS)


def test_a_folder_that_is_not_there_is_a_storage_fault(tmp_path):
    with pytest.raises(StorageFault):
        ks.create(tmp_path / "gone" / "keystore", NET, PASS, bytes(16))


@pytest.mark.parametrize("passphrase", ["", "short", "x" * 1025])
def test_a_passphrase_has_a_length(path, passphrase):
    with pytest.raises(LocalFault):
        ks.create(path, NET, passphrase, bytes(16))
    assert not path.exists()


def test_nothing_in_the_file_or_a_repr_gives_the_words_away(path, blob):
    path.write_bytes(blob)
    opened = ks.open_keystore(path, NET, PASS)
    assert b"abandon" not in blob
    assert opened.identity.secret_seed() not in blob
    assert "abandon" not in f"{opened} {opened!r} {opened.mnemonic} {opened.seed}"


def test_secrets_are_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(Secret("x"))
