# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign-offs of people for a release. PRIVATE to the collection."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ._clock import Now, to_text, utc_now
from ._errors import LastroError, Text
from ._files import append_line, read_json_lines, writing

Signoff = dict[str, t.Any]
"""{name, by, release, comment, time}."""


def run(
    state_dir: Path, *, release: str, name: str | None, by: str, comment: str, required: t.Sequence[str], write: bool = True, now: Now = utc_now
) -> dict[str, t.Any]:
    """Record the sign-off *name* unless the same person gave it, and tell which of *required* are missing.

    Raises LastroError where nobody signs, and on a full or read-only disk.
    """
    if name and not by.strip():
        raise LastroError(f"Nobody signs {name} off: by is empty.", remedy=Text(en="Say who it is, in by.", pt_BR="Diga quem é, em by."))
    path = state_dir / "signoffs.jsonl"
    given = [signoff for signoff in read_json_lines(path) if signoff.get("release") == release]
    before = list(given)
    if name and not any(signoff["name"] == name and signoff["by"] == by for signoff in given):
        signoff = {"name": name, "by": by, "release": release, "comment": comment, "time": to_text(now())}
        given.append(signoff)
        if write:
            with writing(path):
                state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                append_line(path, json.dumps(signoff, sort_keys=True, ensure_ascii=False))
    missing = [one for one in required if one not in {signoff["name"] for signoff in given}]
    return {
        "changed": given != before,
        "signoffs": given,
        "missing": missing,
        "checked": len(required),
        "findings": [_finding(one, release) for one in missing],
        "diff": {"before": {"signoffs": before}, "after": {"signoffs": given}},
    }


def _remedy(name: str, release: str) -> Text:
    return Text(
        en=f"Whoever is responsible runs: ansible-playbook approve.yml -i INVENTORY -e approve_name={name} (for {release}).",
        pt_BR=f"A pessoa responsável executa: ansible-playbook approve.yml -i INVENTÁRIO -e approve_name={name} (para {release}).",
    )


def _finding(name: str, release: str) -> dict[str, t.Any]:
    return {"target": "sign-off", "problem": f"{name} has not signed {release} off.", "remedy": _remedy(name, release)._asdict()}


def missing_error(missing: t.Sequence[str], release: str) -> LastroError:
    """The error that names the missing sign-offs."""
    return LastroError(f"Not signed off by {', '.join(missing)}.", remedy=_remedy(missing[0], release), missing=list(missing))


__all__ = ("missing_error", "run")
