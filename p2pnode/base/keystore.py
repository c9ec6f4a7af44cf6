"""The keystore: one small file with the wallet's words and the node's key, encrypted.

    [1, network, "argon2id13", passes, memory, salt, nonce, box]     canonical (docs/storage.md)

The key is Argon2id 1.3 (RFC 9106) of the passphrase in Unicode NFKC; the box is
XChaCha20-Poly1305 over [words, node seed], with the tag "keystore" and everything before
the box as authenticated data. So neither the network nor the cost can be swapped. The
words are BIP 39, twelve, English; the node's key is ground from their seed, and kept so
that opening need not grind again.
"""

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from p2pnode.base import wire
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    Misconfigured,
    StorageFault,
    WrongPassphrase,
)
from p2pnode.base.identity import Identity, works
from p2pnode.base.networks import Network
from p2pnode.base.secret import Secret

FILE: Final = "keystore"
VERSION: Final = 1
KDF: Final = "argon2id13"
PASSES: Final = 3
MEMORY: Final = 64 * 1024 * 1024  # bytes
MAX_PASSES: Final = 10
MAX_MEMORY: Final = 256 * 1024 * 1024
ENTROPY_BYTES: Final = 16  # twelve words
MIN_PASSPHRASE: Final = 8  # characters
MAX_PASSPHRASE: Final = 1024
MAX_FILE: Final = 1024
_WORDS_SIZE: Final = 128  # twelve words padded, so that the size of the file tells nothing


@dataclass(frozen=True, slots=True)
class Keystore:
    """An open keystore. Its repr shows the node's public key alone."""

    identity: Identity
    mnemonic: Secret[str]

    @property
    def seed(self) -> Secret[bytes]:
        """The 64-byte BIP 39 seed of the words, without an extra passphrase."""
        return Secret(_bip39_seed(self.mnemonic.reveal()))


def create(path: Path, network: Network, passphrase: str, entropy: bytes) -> Keystore:
    """Write a new keystore from 16 random bytes.

    Raises LocalFault if there is one already, StorageFault if it cannot be written.
    """
    from bdkpython import Mnemonic

    return _write(path, network, passphrase, str(Mnemonic.from_entropy(_sized(entropy))))


def restore(path: Path, network: Network, passphrase: str, words: str) -> Keystore:
    """Write a new keystore from twelve words. Raises InvalidRecord, else like `create`."""
    return _write(path, network, passphrase, check_words(words))


def check_words(words: str) -> str:
    """Return twelve BIP 39 words, lower case, one space apart. Raises InvalidRecord."""
    from bdkpython import Bip39Error, Mnemonic

    plain = " ".join(words.lower().split()) if len(words) <= MAX_FILE else ""
    if plain.count(" ") != 11:
        raise InvalidRecord("words", "are not twelve")
    try:
        return str(Mnemonic.from_string(plain))
    except Bip39Error:
        raise InvalidRecord(
            "words", "are not a BIP 39 seed: one is misspelt, missing or out of place"
        ) from None


def open_keystore(path: Path, network: Network, passphrase: str) -> Keystore:
    """Read and decrypt the keystore; the file is never changed.

    Raises WrongPassphrase (also for a box that was tampered with), InvalidRecord for a
    file that is no keystore, Misconfigured if there is none or it is another network's.
    """
    raw = _read(path)
    array = wire.fields("keystore", wire.unpack("keystore", raw, limit=MAX_FILE), 8)
    wire.within("keystore version", array[0], VERSION, VERSION)
    name = wire.text("keystore network", array[1], 16)
    if name != network.name:
        raise Misconfigured(
            f"network: the keystore belongs to {name!r}, not to {network.name}", field="network"
        )
    if array[2] != KDF:
        raise InvalidRecord("keystore", f"is not protected by {KDF}")
    passes = wire.within("keystore passes", array[3], 1, MAX_PASSES)
    memory = wire.within("keystore memory", array[4], 1024 * 1024, MAX_MEMORY)
    salt = wire.exact("keystore salt", array[5], argon2id.SALTBYTES)
    nonce = wire.exact("keystore nonce", array[6], 24)
    box = wire.blob("keystore box", array[7], 512, low=16)
    key = _key(passphrase, salt, passes, memory)
    try:
        plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            box, _header(network, array[:7]), nonce, key
        )
    except CryptoError:
        raise WrongPassphrase(
            "the keystore does not open: the passphrase is wrong or the file was altered"
        ) from None
    words, seed = wire.fields("keystore", wire.unpack("keystore", plain, limit=512), 2)
    identity = Identity(wire.exact("node seed", seed, 32))
    if not works(network, identity.node_id):
        raise InvalidRecord("keystore", "holds a key without the proof of work")
    return Keystore(identity, Secret(check_words(wire.text("words", words, _WORDS_SIZE))))


def master(network: Network, mnemonic: str) -> bytes:
    """Return the secret that the network's node key is ground from."""
    return wire.digest(wire.tag(network.name, "node-master"), [_bip39_seed(mnemonic)])


def _bip39_seed(mnemonic: str) -> bytes:
    """PBKDF2-HMAC-SHA512, 2048 rounds, salt "mnemonic" (BIP 39, "From mnemonic to seed")."""
    return hashlib.pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", 2048)


def _sized(entropy: bytes) -> bytes:
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"entropy is {ENTROPY_BYTES} bytes")
    return entropy


def _key(passphrase: str, salt: bytes, passes: int, memory: int) -> bytes:
    plain = unicodedata.normalize("NFKC", passphrase).encode(errors="surrogateescape")
    key: bytes = argon2id.kdf(32, plain, salt, opslimit=passes, memlimit=memory)
    return key


def _header(network: Network, array: tuple[Any, ...]) -> bytes:
    return wire.tag(network.name, "keystore") + wire.pack(array)


def _write(path: Path, network: Network, passphrase: str, words: str) -> Keystore:
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        raise LocalFault(
            f"passphrase: is not {MIN_PASSPHRASE} to {MAX_PASSPHRASE} characters",
            field="passphrase",
        )
    check_absent(path)
    identity = Identity.grind(network, master(network, words))
    salt, nonce = os.urandom(argon2id.SALTBYTES), os.urandom(24)
    head = (VERSION, network.name, KDF, PASSES, MEMORY, salt, nonce)
    box = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        wire.pack((words.ljust(_WORDS_SIZE), identity.secret_seed())),
        _header(network, head),
        nonce,
        _key(passphrase, salt, PASSES, MEMORY),
    )
    _write_new(path, wire.pack((*head, box)))
    return Keystore(identity, Secret(words))


def _write_new(path: Path, data: bytes) -> None:
    """Write `data` beside, then give it its name: whole or not at all, never over another."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
        finally:
            beside.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise StorageFault(f"{path.name}: {error.strerror}; nothing was changed") from None


def check_absent(path: Path) -> None:
    """Raise LocalFault if there is a keystore: it is never overwritten."""
    if path.exists():
        raise _exists(path)


def check_present(path: Path) -> None:
    """Raise Misconfigured if there is no keystore."""
    if not path.exists():
        raise _missing(path)


def _missing(path: Path) -> Misconfigured:
    return Misconfigured(
        f"no keystore in {path.parent}: make one with `p2pnode init`", field="data_dir"
    )


def _exists(path: Path) -> LocalFault:
    return LocalFault(f"{path} exists: a keystore is never overwritten")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise StorageFault(f"{path.name}: {error.strerror}") from None
