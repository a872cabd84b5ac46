# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one environment's run proves to the next one about an artifact: a signed file on the controller. PRIVATE to the collection.

Format 1: a JSON object with app, environment, version, sha256 (of the artifact), release, run_id, outcome, gates, finished (ISO 8601, UTC),
format, and hmac: HMAC-SHA256 (RFC 2104) in hexadecimal over the object without hmac, as JSON in UTF-8 with sorted keys and no spaces.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import typing as t
from pathlib import Path

from ._clock import Now, from_text, to_text, utc_now
from ._errors import LastroError, Text
from ._files import write_atomic, writing
from ._gates import parse_positive

FORMAT = 1
GOOD_OUTCOMES = ("deployed", "nothing_to_do")
SHORTEST_KEY = 32
"""Characters: the 32 bytes of an HMAC-SHA256 key, however they are written."""

SIGNED = ("app", "environment", "version", "sha256", "release", "run_id", "outcome", "gates")

Evidence = dict[str, t.Any]


def evidence_file(directory: Path, app: str, environment: str, sha256: str) -> Path:
    """Where the evidence about an artifact is."""
    return directory / app / environment / f"{sha256}.json"


def key_problem(key: object) -> str:
    """What is wrong with a key, its value not named; "" where nothing is."""
    if not isinstance(key, str) or not key:
        return "is missing."
    return f"has {len(key)} characters, fewer than {SHORTEST_KEY}." if len(key) < SHORTEST_KEY else ""


def sign(facts: t.Mapping[str, t.Any], key: str, *, now: Now = utc_now) -> Evidence:
    """*facts* as evidence of this moment."""
    evidence = {**facts, "format": FORMAT, "finished": to_text(now())}
    return {**evidence, "hmac": _hmac(evidence, key)}


def write(directory: Path, evidence: Evidence) -> Path:
    """Keep it for the next environment. Raises LastroError where the directory cannot be written."""
    path = evidence_file(directory, evidence["app"], evidence["environment"], evidence["sha256"])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(evidence, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(), mode=0o644)
    return path


def run(options: t.Mapping[str, t.Any], *, write_it: bool, now: Now = utc_now) -> dict[str, t.Any]:
    """The module's result. Raises LastroError for a key that is too short, and for an unproved artifact unless C(report_only)."""
    if wrong := key_problem(options["key"]):
        raise LastroError(f"key {wrong}", remedy=Text(en="Let new_secrets.yml make one.", pt_BR="Deixe new_secrets.yml gerar uma."))
    directory = Path(options["dir"])
    path = evidence_file(directory, options["app"], options["environment"], options["sha256"])
    if options["state"] == "present":
        evidence = sign({name: options[name] for name in SIGNED}, options["key"], now=now)
        if write_it:
            write(directory, evidence)
        return {"changed": True, "path": str(path), "checked": 0, "findings": []}
    demand = Demand(*(options[name] for name in Demand._fields))
    unproved = problem(directory, demand, options["key"], now=now)
    if unproved and not options["report_only"]:
        raise unproved
    findings = [{"target": "evidence", "problem": unproved.message, "remedy": unproved.remedy._asdict()}] if unproved else []
    return {"changed": False, "path": str(path), "checked": 1, "findings": findings}


class Demand(t.NamedTuple):
    """What an environment wants proved: this artifact, in *environment*, not longer ago than *max_age* (for example ``7d``)."""

    app: str
    environment: str
    version: str
    sha256: str
    max_age: str


def problem(directory: Path, demand: Demand, key: str, *, now: Now = utc_now) -> LastroError | None:
    """Why the artifact is not proved; None where it is. Raises LastroError for a max_age that is no duration."""
    path = evidence_file(directory, demand.app, demand.environment, demand.sha256)
    oldest = now() - datetime.timedelta(seconds=parse_positive(demand.max_age, "max_age"))
    try:
        evidence = json.loads(path.read_bytes())
    except FileNotFoundError:
        return _unproved(demand, f"{demand.environment} has not proved this artifact of {demand.version}: there is no {path}.")
    except (OSError, ValueError):
        return _unproved(demand, f"{path} cannot be read as evidence.")
    if not isinstance(evidence, dict) or not _authentic(evidence, key):
        return _unproved(demand, f"{path} was signed with another key, or changed since.", key=True)
    return _judged(evidence, demand, path, oldest)


def _judged(evidence: Evidence, demand: Demand, path: Path, oldest: datetime.datetime) -> LastroError | None:
    named = {name: evidence.get(name) for name in ("app", "environment", "sha256")}
    if named != {"app": demand.app, "environment": demand.environment, "sha256": demand.sha256} or evidence.get("format") != FORMAT:
        return _unproved(demand, f"{path} speaks of another artifact.")
    if evidence["outcome"] not in GOOD_OUTCOMES:
        return _unproved(demand, f"the run {evidence['run_id']} of {demand.environment} ended as {evidence['outcome']}.")
    if from_text(evidence["finished"]) < oldest:
        return _unproved(demand, f"what {demand.environment} proved on {evidence['finished'][:10]} is older than {demand.max_age}.")
    return None


def _authentic(evidence: Evidence, key: str) -> bool:
    claimed = evidence.get("hmac")
    rest = {name: value for name, value in evidence.items() if name != "hmac"}
    return isinstance(claimed, str) and hmac.compare_digest(claimed.encode(), _hmac(rest, key).encode())


def _hmac(evidence: t.Mapping[str, t.Any], key: str) -> str:
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _unproved(demand: Demand, message: str, *, key: bool = False) -> LastroError:
    remedy = Text(
        en=f"Deploy it there first: ansible-playbook deploy.yml -i {demand.environment} -e deploy_version={demand.version}.",
        pt_BR=f"Faça antes o deploy lá: ansible-playbook deploy.yml -i {demand.environment} -e deploy_version={demand.version}.",
    )
    if key:
        remedy = Text(
            en=f"Give deploy_evidence.key the same value in both. {remedy.en}", pt_BR=f"Use o mesmo valor em deploy_evidence.key nos dois. {remedy.pt_BR}"
        )
    return LastroError(message, remedy=remedy)


__all__ = ("Demand", "Evidence", "evidence_file", "key_problem", "problem", "run", "sign", "write")
