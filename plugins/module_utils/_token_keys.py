# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that encrypt tokens: 32 bytes in base64, from options or from the environment file. PRIVATE to the collection."""

from __future__ import annotations

import base64
import re
import typing as t

from . import _environment_file
from ._errors import LastroError, Text

KEY_BYTES = 32
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")
_URLSAFE = str.maketrans("-_", "+/")

_GENERATE = Text(
    en='Generate a key with: python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"',
    pt_BR='Gere uma chave com: python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"',
)


def parse_key(text: str, *, name: str = "The key") -> bytes:
    """The 32 bytes of a key in urlsafe or standard base64, padded or not.

    *name* starts the message, for example ``"TOKEN_ENCRYPTION_KEY"``. Raises LastroError for anything that is not
    base64, for another length and for a key whose bytes are all equal; the key itself is never in it.
    """
    text = text.strip()
    if not text:
        raise LastroError(f"{name} is empty.", remedy=_GENERATE)
    body = text.rstrip("=")
    if not _BASE64.match(text) or len(body) % 4 == 1:
        raise LastroError(f"{name} is not base64 ({len(text)} characters).", remedy=_GENERATE)
    key = base64.b64decode(body.translate(_URLSAFE) + "=" * (-len(body) % 4))
    if len(key) != KEY_BYTES:
        raise LastroError(f"{name} decodes to {len(key)} bytes, {KEY_BYTES} are needed.", remedy=_GENERATE)
    if len(set(key)) == 1:
        raise LastroError(f"{name} is {KEY_BYTES} times the same byte, which protects nothing.", remedy=_GENERATE)
    return key


def keys_from_params(params: t.Mapping[str, t.Any]) -> tuple[bytes, ...]:
    """The key ring of the options ``encryption_keys``, or ``environment_file`` and ``key_variable``; the first one encrypts.

    Empty where the options name none. Raises LastroError for a key that is weak and for a file that lacks the variable.
    """
    given: list[str] | None = params.get("encryption_keys")
    if given:
        return tuple(parse_key(text, name=_numbered("encryption_keys", number, len(given))) for number, text in enumerate(given, 1))
    path = params.get("environment_file")
    if not path:
        return ()
    variable = params["key_variable"]
    texts = read_variable(path, variable, option="key_variable", hint=_GENERATE).split(",")
    return tuple(parse_key(text, name=_numbered(variable, number, len(texts))) for number, text in enumerate(texts, 1))


def _numbered(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name}, key {number} of {count},"


def read_variable(path: str, variable: str, *, option: str, hint: Text) -> str:
    """The value of a variable in the environment file at *path*; *option* names it. Raises LastroError, with *hint* in its remedy, where there is none."""
    remedy = Text(
        en=f"Set {variable} in deploy_env, or name the right variable in {option}. {hint.en}",
        pt_BR=f"Defina {variable} em deploy_env, ou indique a variável certa em {option}. {hint.pt_BR}",
    )
    try:
        value = _environment_file.read(path).get(variable, "")
    except OSError as error:
        raise LastroError(f"The environment file {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    if not value.strip():
        raise LastroError(f"The environment file {path} has no {variable}.", remedy=remedy)
    return value


__all__ = ("KEY_BYTES", "keys_from_params", "parse_key", "read_variable")
