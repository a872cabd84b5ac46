# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception family. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import typing as t


class Text(t.NamedTuple):
    """A sentence for the user in both languages of the project."""

    en: str
    pt_BR: str


class LastroError(Exception):
    """What went wrong, what to do next, and the facts behind it.

    *message* says what is wrong (English, no secret in it), *remedy* what the user does next, in
    both languages. *facts* become return values of the module that fails; they hold no secrets and
    none of the names that Ansible gives a meaning of its own.
    """

    def __init__(self, message: str, *, remedy: Text, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.facts = facts

    def __str__(self) -> str:
        between = "\n" if "\n" in self.message else " "
        return f"{self.message}{between}{self.remedy.en}".strip()

    def as_result(self) -> dict[str, t.Any]:
        """Keyword arguments for ``AnsibleModule.fail_json``."""
        return {"msg": str(self), "problem": self.message, "remedy": self.remedy._asdict(), **self.facts}


__all__ = ("LastroError", "Text")
