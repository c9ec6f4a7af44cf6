"""Payment accounts: what a trader is paid into, known by salted hashes until funding.

    account_id   = SHA-256(tag "account-id" || [method, [field values], fixed salt])
    account_hash = SHA-256(tag "account" || [fresh salt, account_id])

The contract carries account_hash alone; after funding the ACCOUNT message discloses
[method, [field values], fixed salt, fresh salt] to the counterparty (docs/wire/offers.md).
At rest an account is a libsodium secretbox; its repr shows no details.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Self

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from orderbook.account_details import as_text, check_values
from orderbook.method_fields import spelled
from orderbook.methods import check_method
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

VERSION: Final = 1
MAX_NAME: Final = 40  # bytes
SALT: Final = 32
NONCE: Final = SecretBox.NONCE_SIZE
MAX_SEALED: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Account:
    """One way to be paid. Construction raises InvalidRecord naming the field."""

    name: str
    method: str
    details: tuple[str, ...] = field(repr=False)  # the method's fields, in its order
    fixed_salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_method("method", self.method)
        check_values(self.method, self.details)
        wire.exact("fixed_salt", self.fixed_salt, SALT)

    def account_id(self, network: Network) -> bytes:
        """Return the lasting salted hash, by which an account can age in private."""
        return _account_id(network, self.method, self.details, self.fixed_salt)

    def account_hash(self, network: Network, fresh_salt: bytes) -> bytes:
        """Return a trade's commitment: nothing links it to the account's other trades."""
        return _account_hash(network, fresh_salt, self.account_id(network))

    def disclose(self, fresh_salt: bytes) -> tuple[Any, ...]:
        """Return the array of the ACCOUNT message."""
        return (self.method, self.details, self.fixed_salt, wire.exact("salt", fresh_salt, SALT))

    def seal(self, key: bytes, nonce: bytes) -> bytes:
        """Encrypt for the disk under a 32-byte key and a fresh 24-byte nonce."""
        plain = wire.pack((VERSION, self.name, self.method, self.details, self.fixed_salt))
        return bytes(SecretBox(key).encrypt(plain, nonce))

    @classmethod
    def unseal(cls, key: bytes, sealed: bytes) -> Self:
        """Decrypt. Raises InvalidRecord if a byte was changed or the key is another."""
        try:
            plain = SecretBox(key).decrypt(wire.blob("account", sealed, MAX_SEALED, low=NONCE + 16))
        except CryptoError:
            raise InvalidRecord("account", "does not open with this keystore's key") from None
        value = wire.fields("account", wire.unpack("account", plain, limit=MAX_SEALED), 5)
        wire.within("version", value[0], VERSION, VERSION)
        return cls(name=value[1], method=value[2], details=value[3], fixed_salt=value[4])


def check_name(name: object) -> str:
    """Return an account's name if it can be one. Raises InvalidRecord."""
    text = wire.text("name", name, MAX_NAME, low=1)
    if spelled("name", text, 1, MAX_NAME, MAX_NAME) != text:
        raise InvalidRecord("name", "begins or ends with a space, or has two in a row")
    return text


def check_disclosure(array: object, account_hash: bytes, network: Network) -> tuple[str, str]:
    """Return (method, details as text) of an ACCOUNT message that keeps its commitment.

    Raises InvalidRecord; the caller compares the method with the contract's.
    """
    method, values, fixed_salt, fresh_salt = wire.fields("account", array, 4)
    check_method("method", method)
    details = check_values(method, values)
    wire.exact("fixed_salt", fixed_salt, SALT)
    wire.exact("fresh_salt", fresh_salt, SALT)
    known = _account_id(network, method, details, fixed_salt)
    if _account_hash(network, fresh_salt, known) != account_hash:
        raise InvalidRecord("account", "is not the one that the contract commits to")
    return method, as_text(method, details)


def disclosed_id(array: object, network: Network) -> bytes:
    """Return the account_id of an own disclosure, as a trade keeps it. Raises InvalidRecord."""
    method, values, fixed_salt, _ = wire.fields("account", array, 4)
    return _account_id(network, method, values, fixed_salt)


def _account_id(network: Network, method: str, details: tuple[str, ...], salt: bytes) -> bytes:
    return wire.digest(wire.tag(network.name, "account-id"), (method, details, salt))


def _account_hash(network: Network, fresh_salt: bytes, account_id: bytes) -> bytes:
    salt = wire.exact("fresh_salt", fresh_salt, SALT)
    return wire.digest(wire.tag(network.name, "account"), (salt, account_id))
