# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats C(compat), as any application reads it, and C(bound): AES-256-GCM, and what a row's ciphertext turns out to be.

``docs/token-format.md`` holds the format's definition and test vectors. PRIVATE to the collection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import os
import typing as t

from ._errors import LastroError, Text

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

NONCE_BYTES = 12
TAG_BYTES = 16
BOUND = b"lastro.deploy bound 1"
KEY_ID_LABEL = b"lastro.deploy key id"
LOOKUP_LABEL = b"lastro.deploy lookup"

ColumnType = t.Literal["bytea", "base64", "base64url", "hex"]
COLUMN_TYPES: tuple[ColumnType, ...] = ("bytea", "base64", "base64url", "hex")

Format = t.Literal["compat", "bound"]
FORMATS: tuple[Format, ...] = ("compat", "bound")

Kind = t.Literal["none", "pending", "verified", "mismatch", "wrong_key", "corrupt"]
"""What a row holds: nothing, clear text alone, a ciphertext that opens (and equals the clear text where there is one),
one that opens to another text, one that no key opens, one that is damaged."""


class Sealed(t.NamedTuple):
    """One encrypted token."""

    ciphertext: bytes
    nonce: bytes


class Verdict(t.NamedTuple):
    """What a row turned out to be; *text* is the decrypted token for C(verified) and C(mismatch), *key* the number of the key that opened it."""

    kind: Kind
    text: str | None = None
    key: int = 0


def binding(table: str, column: str, key: t.Iterable[str]) -> bytes:
    """What format C(bound) authenticates with a token: its table (C(schema.table)), its column, and the row's key as PostgreSQL writes it."""
    parts = [part.encode() for part in (table, column, *key)]
    return BOUND + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def encode(column_type: ColumnType, data: bytes) -> str:
    """*data* as the input text of a column of this type."""
    if column_type == "bytea":
        return "\\x" + data.hex()
    if column_type == "hex":
        return data.hex()
    return (base64.urlsafe_b64encode if column_type == "base64url" else base64.b64encode)(data).decode()


def decode(column_type: ColumnType, value: str | bytes | memoryview) -> bytes:
    """The bytes behind a column's value. Base64 may lack its padding. Raises ValueError."""
    if not isinstance(value, str):
        return bytes(value)
    if column_type == "hex":
        return binascii.unhexlify(value)
    body = value.rstrip("=")
    altchars = b"+/" if column_type == "base64" else b"-_"
    return base64.b64decode(body + "=" * (-len(body) % 4), altchars=altchars, validate=True)


class KeyRing:
    """Keys of 32 bytes: the first one encrypts, all of them decrypt."""

    def __init__(self, keys: t.Sequence[bytes], *, random: t.Callable[[int], bytes] = os.urandom) -> None:
        _require_cryptography()
        self._keys = tuple(keys)
        self._ciphers = tuple(AESGCM(key) for key in keys)
        self._random = random
        self._lookup_key = hmac.digest(self._keys[0], LOOKUP_LABEL, "sha256") if keys else b""

    def first(self) -> KeyRing:
        """The ring of the first key alone."""
        return KeyRing(self._keys[:1], random=self._random)

    @property
    def key_id(self) -> bytes:
        """What tells the first key from others: four bytes that say nothing of it."""
        return hashlib.sha256(KEY_ID_LABEL + self._keys[0]).digest()[:4]

    def lookup(self, text: str) -> bytes:
        """HMAC-SHA256 of a token, by which a row is found without its clear text; its key is made from the first key."""
        return hmac.digest(self._lookup_key, text.encode(), "sha256")

    def encrypt(self, texts: t.Sequence[str], bindings: t.Sequence[bytes | None] | None = None) -> list[Sealed]:
        """Encrypt a batch with the first key, each text with what it is bound to; the nonces come from one call of the operating system's generator."""
        nonces = self._random(NONCE_BYTES * len(texts))
        seal = self._ciphers[0].encrypt
        sealed = []
        for number, (text, binding) in enumerate(zip(texts, bindings or itertools.repeat(None), strict=False)):
            nonce = nonces[number * NONCE_BYTES : (number + 1) * NONCE_BYTES]
            sealed.append(Sealed(seal(nonce, text.encode(), binding), nonce))
        return sealed

    @property
    def open(self) -> t.Callable[[bytes, bytes, bytes | None], bytes]:
        """Decrypts a nonce, a ciphertext and what it is bound to with the first key; raises InvalidTag."""
        return self._ciphers[0].decrypt

    def judge(self, clear: str | None, ciphertext: bytes, nonce: bytes, bindings: t.Sequence[bytes | None] = (None,)) -> Verdict:
        """Decrypt one value and compare it with the row's clear text, where there is one.

        Each of *bindings* is tried with each key; the verdict's key is 0 for the first of both alone.
        """
        if len(nonce) != NONCE_BYTES or len(ciphertext) < TAG_BYTES:
            return Verdict("corrupt")
        for number, (binding, cipher) in enumerate(itertools.product(bindings, self._ciphers)):
            try:
                data = cipher.decrypt(nonce, ciphertext, binding)
            except InvalidTag:
                continue
            return _compare(clear, data, number)
        return Verdict("corrupt" if self._is_damaged(clear, ciphertext, nonce) else "wrong_key")

    def _is_damaged(self, clear: str | None, ciphertext: bytes, nonce: bytes) -> bool:
        """Whether a value that no key opens was made with one of them: its text, read without the tag, still makes sense."""
        for key in self._keys:
            counter = Cipher(algorithms.AES(key), modes.CTR(nonce + b"\x00\x00\x00\x02")).decryptor()
            if _makes_sense(counter.update(ciphertext[:-TAG_BYTES]), clear):
                return True
        return False


def _compare(clear: str | None, data: bytes, key: int) -> Verdict:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Verdict("corrupt")
    if "\0" in text:
        return Verdict("corrupt")
    return Verdict("verified" if clear is None or clear == text else "mismatch", text, key)


def _makes_sense(guess: bytes, clear: str | None) -> bool:
    if clear:
        wanted = clear.encode()
        if 2 * sum(one == other for one, other in zip(guess, wanted, strict=False)) > max(len(guess), len(wanted)):
            return True
    return len(guess) >= 16 and sum(32 <= one < 127 for one in guess) > 0.9 * len(guess)


def _require_cryptography() -> None:
    if not HAS_CRYPTOGRAPHY:
        raise LastroError(
            "This Python has no cryptography.",
            remedy=Text(
                en="Install cryptography in the interpreter that ansible_python_interpreter names for the primary host.",
                pt_BR="Instale cryptography no interpretador que ansible_python_interpreter indica para o host primário.",
            ),
        )


__all__ = ("COLUMN_TYPES", "FORMATS", "ColumnType", "Format", "KeyRing", "Kind", "Sealed", "Verdict", "binding", "decode", "encode")
