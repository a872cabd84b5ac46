# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that protect nothing: placeholders, patterns, and values that stand in public documentation. PRIVATE to the collection."""

from __future__ import annotations

import base64
import binascii
import re

LEAST_DECODED = 16
"""Shorter texts are no encoding of a key, but texts: what they would decode to says nothing."""

PLACEHOLDER = re.compile(
    r"<[^<>]*>|\A\.\.\.\Z|\Ax{3,}\Z|change[-_ ]?me|changethis|replace[-_ ]?me|fill[-_ ]?(me[-_ ]?)?in|placeholder|\Atodo\b|\Adjango-insecure-"
    r"|\b(your|sua|seu|minha|meu|my)[-_ ](super[-_ ]|\d+[-_ ]bit[-_ ])?(secret|key|chave|token|senha|password|segredo)"
    r"|\A(secret|secreto|segredo|password|senha)\Z|://user(name)?:pass(word)?@|://usuario:senha@",
    re.IGNORECASE,
)

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")
_URLSAFE = str.maketrans("-_", "+/")

_PUBLISHED = {
    # Flask's and FastAPI's documentation (configuration; OAuth2 with JWT), copied into many applications.
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    # Fernet: the specification's key; Apache Airflow's examples and images; cloud examples for the same.
    "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
    "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=",
    "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs=",
    # AES-256 keys of NIST's test vectors: SP 800-38A F.1.5, and the GCM specification's test cases 15 to 18.
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
    # This project's own test vector, docs/token-format.md.
    "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA=",
}


def forms(text: str) -> set[bytes]:
    """The bytes that *text* may stand for: its own, and what it is the hexadecimal or base64 form of."""
    found = {text.encode()}
    body = text.strip().rstrip("=")
    if _HEX.match(body):
        found.add(binascii.unhexlify(body))
    if _BASE64.match(body) and len(body) % 4 != 1:
        found.add(base64.b64decode(body.translate(_URLSAFE) + "=" * (-len(body) % 4)))
    return {form for form in found if len(form) >= LEAST_DECODED} | {text.encode()}


_PUBLISHED_FORMS = frozenset(form for text in _PUBLISHED for form in forms(text))


def weakness(secret: bytes) -> str:
    """Why *secret* protects nothing, as the end of a sentence that begins with its name; empty where nothing is known against it."""
    size = len(secret)
    if len(set(secret)) == 1:
        return f"is weak: all {size} bytes are equal"
    if secret in (bytes((secret[0] + step * place) % 256 for place in range(size)) for step in (1, -1)):
        return f"is weak: its {size} bytes only count {'up' if secret[1] == (secret[0] + 1) % 256 else 'down'}"
    if secret in _PUBLISHED_FORMS:
        return f"is weak: its {size} bytes are published in documentation"
    # Random bytes hold signs of a placeholder by chance; only a text is one.
    if all(32 <= byte < 127 for byte in secret) and PLACEHOLDER.search(secret.decode()):
        return f"is weak: its {size} bytes are a placeholder's text"
    return ""


def text_weakness(text: str) -> str:
    """The same for a secret that is used as text: its own characters, and the bytes that it may be an encoding of."""
    if len(set(text)) == 1:
        return f"is weak: one character, {len(text)} times"
    found = (weakness(form) for form in sorted(forms(text), key=len, reverse=True) if len(form) >= LEAST_DECODED)
    return next(filter(None, found), "")


__all__ = ("LEAST_DECODED", "PLACEHOLDER", "forms", "text_weakness", "weakness")
