# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an API key is made and what is stored of it. C(docs/api-keys.md) has the formats and test vectors. PRIVATE to the collection."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import string
import typing as t
import zlib

from ._errors import LastroError, Text
from ._token_keys import read_variable
from ._weak_secrets import LEAST_DECODED, PLACEHOLDER, text_weakness, weakness

Style = t.Literal["plain", "prefixed"]
Random = t.Callable[[int], bytes]

SECRET_BYTES = 32
LEAST_TEXT = 32
"""Characters of a salt that is used as text; 32 hexadecimal digits are 16 bytes of chance."""

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_DIGITS = 43
CHECKSUM_DIGITS = 6
PREFIX = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*\Z")
PREFIX_LENGTH = 32

_SALT_REMEDY = Text(
    en="Make one with: openssl rand -hex 32. Keys that are stored under another salt have to be rotated.",
    pt_BR="Gere um com: openssl rand -hex 32. As chaves guardadas com outro sal precisam ser rotacionadas.",
)


def make(style: Style, prefix: str, random: Random) -> str:
    """A new key of 256 bits of chance: C(plain) as 43 characters of urlsafe base64, C(prefixed) as PREFIX_SECRET_CHECKSUM.

    The secret is 43 digits in base 62 and the checksum 6, the CRC-32 of all before it, as GitHub's tokens have it: the key
    is one word for a double click, and a scanner tells it from chance without asking anyone.
    """
    secret = random(SECRET_BYTES)
    if style == "plain":
        return base64.urlsafe_b64encode(secret).decode().rstrip("=")
    body = f"{prefix}_{base62(int.from_bytes(secret, 'big'), SECRET_DIGITS)}"
    return f"{body}_{checksum(body)}"


def base62(number: int, digits: int) -> str:
    """*number* in base 62 (0-9, A-Z, a-z), with zeros before it up to *digits*."""
    text = ""
    while number:
        number, digit = divmod(number, len(BASE62))
        text = BASE62[digit] + text
    return text.rjust(digits, BASE62[0])


def checksum(body: str) -> str:
    """CRC-32 of *body* as six digits in base 62."""
    return base62(zlib.crc32(body.encode()), CHECKSUM_DIGITS)


def prefix_problem(style: Style, prefix: str) -> str:
    """Why the prefix will not do for this style; empty where it does."""
    if style == "plain":
        return "is for style prefixed alone" if prefix else ""
    if not PREFIX.match(prefix) or len(prefix) > PREFIX_LENGTH:
        return f"has {len(prefix)} characters; it takes 1 to {PREFIX_LENGTH} lower-case letters and digits in words with one underscore between them"
    return ""


def hash_of(salt: bytes, key: str) -> bytes:
    """HMAC-SHA256 of the key under the salt (RFC 2104): 32 bytes."""
    return hmac.digest(salt, key.encode(), hashlib.sha256)


def salt_from_params(params: t.Mapping[str, t.Any]) -> bytes | None:
    """The salt's bytes from C(salt), or from C(salt_variable) in C(environment_file); None where neither is given. Raises LastroError, without it."""
    text, named = params.get("salt") or "", "salt"
    if not text and params.get("environment_file"):
        named = params["salt_variable"]
        text = read_variable(params["environment_file"], named, option="salt_variable", hint=_SALT_REMEDY)
    return parse_salt(text, params["salt_format"], named) if text else None


def parse_salt(text: str, form: str, named: str) -> bytes:
    """The bytes that HMAC takes; *form* is C(text), C(hex) or C(base64). Raises LastroError for one that is malformed, short or known to be weak."""
    problem = "holds a placeholder" if PLACEHOLDER.search(text) else ""
    if form == "text":
        problem = problem or (f"has {len(text)} characters, at least {LEAST_TEXT} are needed" if len(text) < LEAST_TEXT else text_weakness(text))
        salt = text.encode()
    else:
        try:
            salt = binascii.unhexlify(text.strip()) if form == "hex" else base64.b64decode(text.strip(), validate=True)
        except ValueError:
            raise LastroError(f"{named} is not {form} ({len(text)} characters).", remedy=_SALT_REMEDY) from None
        problem = problem or (f"decodes to {len(salt)} bytes, at least {LEAST_DECODED} are needed" if len(salt) < LEAST_DECODED else weakness(salt))
    if problem:
        raise LastroError(f"{named} {problem}.", remedy=_SALT_REMEDY)
    return salt


__all__ = ("Random", "Style", "base62", "checksum", "hash_of", "make", "parse_salt", "prefix_problem", "salt_from_params")
