# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets looked for by value, as they are and as a URL or what encodes bytes would hold them."""

from __future__ import annotations

import base64
import collections.abc
import urllib.parse

ALIKE = 9
"""Characters that decide whether a value needs a search of its own: thousands of values in hundreds of megabytes of text."""


def forms(value: str) -> set[str]:
    """The value, and how it would stand in a URL, in base64 and in hexadecimal digits."""
    raw = value.encode()
    return {value, urllib.parse.quote(value, safe=""), base64.b64encode(raw[: len(raw) // 3 * 3]).decode(), raw.hex()}


def leaked(values: collections.abc.Iterable[str], text: str) -> list[str]:
    """Which of the values, each of at least nine characters, stand in a text in any form; their first four characters."""
    alike: dict[str, list[str]] = {}
    for value in values:
        for form in forms(value):
            alike.setdefault(form[:ALIKE], []).append(form)
    return [form[:4] for start, group in alike.items() if start in text for form in group if form in text]
