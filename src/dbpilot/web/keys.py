"""Keys: who may do what. A key is shown once; what is configured is its hash, with a name and a role.

A line is ``name:role:id:scrypt-14-8-1:salt:hash``. It holds no character that a shell, a compose file or an ``.env``
file would take for its own. The id is in the key as well: it says which hash to compare with, and opens nothing.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from secrets import token_bytes, token_hex, token_urlsafe
from typing import Final, Literal

from dbpilot.config import WebConfig
from dbpilot.errors import ConfigError, RefusedError

RoleName = Literal["metrics", "viewer", "operator", "admin"]

SCHEME: Final = "scrypt-14-8-1"
COST: Final = 2**14
BLOCK: Final = 8
"""Some 16 MiB and 50 ms: a key is drawn from 256 bits, and nobody finds it by trying; this is for those who would."""
SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32
NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
PREFIX: Final = "dbpilot"


class Role(IntEnum):
    """What a caller may do; each may do what those before it may."""

    METRICS = 1
    """Scrape the metrics, and nothing else."""
    VIEWER = 2
    OPERATOR = 3
    """Review the pool, clean, cancel, hold rows, try out."""
    ADMIN = 4
    """Create and drop indexes, restore rows, release holds."""

    @classmethod
    def named(cls, name: str) -> "Role":
        """The role of this name.

        Raises:
            ConfigError: there is none.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            raise ConfigError(f"there is no role {name}; there are {', '.join(role.title for role in cls)}") from None

    @property
    def title(self) -> str:
        """Its name, as it is written in a key's line."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class KeyHash:
    """A key as it is configured."""

    name: str
    """Whose it is: what activity says who did something."""
    role: Role
    id: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, line: str, where: str) -> "KeyHash":
        """The key of this line.

        Raises:
            ConfigError: it is no such line; says where it is, and does not repeat it.
        """
        parts = line.strip().split(":")
        if len(parts) != 6 or parts[3] != SCHEME or not NAME.fullmatch(parts[0]):
            raise ConfigError(f"{where} is no line that `dbpilot key new` prints (name:role:id:{SCHEME}:salt:hash)")
        try:
            salt, digest = map(_decoded, parts[4:])
        except ValueError:
            salt = digest = b""
        if (len(salt), len(digest)) != (SALT_BYTES, DIGEST_BYTES):
            raise ConfigError(f"{where} is damaged: its salt or its hash was cut") from None
        return cls(parts[0], Role.named(parts[1]), parts[2], salt, digest)

    @property
    def line(self) -> str:
        """What is configured."""
        return ":".join((self.name, self.role.title, self.id, SCHEME, _encoded(self.salt), _encoded(self.digest)))

    def fits(self, key: str) -> bool:
        """Whether this is the hash of that key; takes as long for a wrong one."""
        return hmac.compare_digest(_hash(key, self.salt), self.digest)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made."""

    secret: str = field(repr=False)
    """Shown to whoever asked for it, and kept nowhere."""
    hash: KeyHash


def new_key(name: str, role: Role) -> NewKey:
    """A key that nobody has yet.

    Raises:
        ConfigError: the name cannot stand in a line.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"a key's name is up to 64 letters, digits, dots, hyphens, underscores and @, not {name!r}")
    id_, salt = token_hex(6), token_bytes(SALT_BYTES)
    secret = f"{PREFIX}_{id_}_{token_urlsafe(32)}"
    return NewKey(secret, KeyHash(name, role, id_, salt, _hash(secret, salt)))


class Keyring:
    """The configured keys. A key that was seen to fit is known at once from then on: a request must not take 50 ms."""

    def __init__(self, hashes: Iterable[KeyHash]) -> None:
        """Keeps the keys.

        Raises:
            ConfigError: two have the same id.
        """
        known = list(hashes)
        self._hashes = {one.id: one for one in known}
        if len(self._hashes) < len(known):
            raise ConfigError("two keys have the same id; make one of them anew with `dbpilot key new`")
        self._salt = token_bytes(SALT_BYTES)
        self._seen: dict[str, bytes] = {}
        """By id, a quick hash of the key that fits; it lives as long as this process."""

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def by_id(self, id_: str) -> KeyHash | None:
        """The key with this id."""
        return self._hashes.get(id_)

    def named_by(self, key: str) -> KeyHash | None:
        """The configured key that this one says it is; nothing was compared yet."""
        prefix, _, rest = key.partition("_")
        return self._hashes.get(rest.partition("_")[0]) if prefix == PREFIX else None

    def is_known(self, key: str, said: KeyHash) -> bool:
        """Whether this key was seen to fit before."""
        seen = self._seen.get(said.id)
        return seen is not None and hmac.compare_digest(seen, self._quick(key))

    def opens(self, key: str, said: KeyHash) -> bool:
        """Whether the key is the one that it says it is."""
        if self.is_known(key, said):
            return True
        if not said.fits(key):
            return False
        self._seen[said.id] = self._quick(key)
        return True

    def _quick(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._salt).digest()


def keyring_of(config: WebConfig) -> Keyring:
    """The keys of the setting and of the file.

    Raises:
        ConfigError: a line is none, or the file cannot be read.
    """
    lines = [(secret.get_secret_value(), f"key {number} of WEB__KEYS") for number, secret in enumerate(config.keys, 1)]
    if config.keys_file is not None:
        lines += _lines_of(config.keys_file)
    return Keyring(KeyHash.read(line, where) for line, where in lines)


def refuse_open(host: str, config: WebConfig, setting: str) -> None:
    """Returns only when a service may listen on this address: on loopback, or anywhere once there is a key.

    Raises:
        RefusedError: says what to add, and which ``setting`` would keep it on loopback.
    """
    if is_loopback(host) or keyring_of(config):
        return
    raise RefusedError(
        f"{setting}={host} would let everybody who reaches this machine read the database's statements and change "
        "it, and no key is configured. Run `dbpilot key new --role admin`, keep the key that it prints, and add the "
        f"line that it prints, DBPILOT_WEB__KEYS='[\"...\"]'; or leave {setting} at 127.0.0.1"
    )


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether this address is reached from the same machine only."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def written(lines: Sequence[str]) -> str:
    """The line of an environment that configures these keys."""
    listed = ", ".join(f'"{line}"' for line in lines)
    return f"DBPILOT_WEB__KEYS='[{listed}]'"


def _lines_of(file: Path) -> list[tuple[str, str]]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"WEB__KEYS_FILE={file} cannot be read: {reason}") from None
    numbered = ((line.strip(), f"line {number} of {file}") for number, line in enumerate(text.splitlines(), 1))
    return [(line, where) for line, where in numbered if line and not line.startswith("#")]


def _hash(key: str, salt: bytes) -> bytes:
    return hashlib.scrypt(key.encode(), salt=salt, n=COST, r=BLOCK, p=1, maxmem=64 * 2**20, dklen=DIGEST_BYTES)


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
