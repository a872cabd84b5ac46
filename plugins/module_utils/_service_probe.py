# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many services asked at once, each bounded by its timeout. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t

from . import _environment_file
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._findings import Finding, findings_error, from_error
from ._http import url_secrets
from ._service_probe_kinds import ASK, KINDS, Reply, Target, resolve

GRACE = 3.0
"""Seconds beyond its timeout that a probe gets, for what no timeout reaches (name resolution, a second address)."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """How a target answered; *finding* is None where it is well."""

    target: Target
    reply: Reply = dataclasses.field(default_factory=Reply)
    seconds: float = 0.0
    finding: Finding | None = None

    def as_result(self) -> dict[str, t.Any]:
        """The target as a return value."""
        return {
            "name": self.target.name,
            "kind": self.target.kind,
            "ok": self.finding is None,
            "seconds": round(self.seconds, 3),
            "version": self.reply.version,
            "days_left": self.reply.days_left,
            "problem": self.finding.problem if self.finding else "",
        }


def argument_spec() -> ArgumentSpec:
    """The options of the module service_probe."""
    target: dict[str, t.Any] = {
        "name": {"type": "str"},
        "kind": {"type": "str", "required": True, "choices": list(KINDS)},
        "url": {"type": "str", "no_log": True},
        "url_variable": {"type": "str"},
        "host": {"type": "str"},
        "port": {"type": "int"},
        "timeout": {"type": "float"},
        "min_days": {"type": "int", "default": 14},
        "ca_cert": {"type": "path"},
    }
    constraints: dict[str, t.Any] = {"mutually_exclusive": [["url", "url_variable", "host"]], "required_one_of": [["url", "url_variable", "host"]]}
    return ArgumentSpec(
        options={
            "targets": {"type": "list", "elements": "dict", "required": True, "options": target, **constraints},
            "environment_file": {"type": "path"},
            "timeout": {"type": "float", "default": 5.0},
            "report_only": {"type": "bool", "default": False},
        }
    )


def secrets_in(params: t.Mapping[str, t.Any]) -> set[str]:
    """Passwords in the URLs of the options, to be censored."""
    return {secret for entry in params["targets"] for secret in url_secrets(entry.get("url") or "")}


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError with all findings, unless ``report_only``."""
    started = time.monotonic()
    probes = probe_all([_planned(entry, params) for entry in params["targets"]])
    findings = [probe.finding for probe in probes if probe.finding]
    result: dict[str, t.Any] = {
        "targets": [probe.as_result() for probe in probes],
        "checked": len(probes),
        "findings": [finding.as_result("target") for finding in findings],
        "seconds": round(time.monotonic() - started, 3),
    }
    if findings and not params["report_only"]:
        raise findings_error(f"{len(findings)} of {len(probes)} services are not as they should be", findings, **result)
    return result


def _planned(entry: t.Mapping[str, t.Any], params: t.Mapping[str, t.Any]) -> Probe:
    """The target to ask, or its probe with the finding that it cannot be asked."""
    named = entry.get("name") or entry.get("url_variable") or (f"{entry['host']}:{entry.get('port') or ''}" if entry.get("host") else entry["kind"])
    timeout = entry.get("timeout") or params["timeout"]
    target = Target(
        name=named,
        kind=entry["kind"],
        host=entry.get("host") or "",
        port=entry.get("port") or 0,
        timeout=timeout,
        min_days=entry["min_days"],
        ca_cert=entry.get("ca_cert") or "",
    )
    try:
        if timeout <= 0:
            raise LastroError("its timeout is not above 0 seconds", remedy=Text(en="Give it seconds.", pt_BR="Informe os segundos."))
        url = entry.get("url") or _from_file(params.get("environment_file"), entry.get("url_variable"))
        return Probe(resolve(dataclasses.replace(target, url=url)))
    except LastroError as error:
        return Probe(target, finding=from_error(named, error))


def _from_file(path: str | None, variable: str | None) -> str:
    if not variable:
        return ""
    remedy = Text(
        en=f"Set {variable} in deploy_env, or name the right variable in url_variable.",
        pt_BR=f"Defina {variable} em deploy_env, ou indique a variável certa em url_variable.",
    )
    if not path:
        raise LastroError("url_variable needs the option environment_file", remedy=remedy)
    try:
        value = _environment_file.read(path).get(variable)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise LastroError(f"the environment file {path} cannot be read: {reason}", remedy=remedy) from None
    if not value:
        raise LastroError(f"the environment file {path} has no {variable}", remedy=remedy)
    return value


def probe_all(probes: t.Sequence[Probe], *, ask: t.Callable[[Target], Reply] | None = None) -> list[Probe]:
    """Ask all targets that have no finding yet, each in a thread of its own; the answers stand in the order of *probes*.

    A thread that hangs beyond its timeout and ``GRACE`` counts as no answer; it is a daemon and cannot hold up the end.
    """
    answers = {position: probe for position, probe in enumerate(probes) if probe.finding is not None}

    def work(position: int) -> None:
        answers[position] = _ask(probes[position].target, ask)

    threads = {position: threading.Thread(target=work, args=(position,), daemon=True) for position in range(len(probes)) if position not in answers}
    started = time.monotonic()
    for thread in threads.values():
        thread.start()
    for position, thread in threads.items():
        limit = probes[position].target.timeout + GRACE
        thread.join(max(started + limit - time.monotonic(), 0.0))
    return [answers.get(position) or _hanging(probe.target) for position, probe in enumerate(probes)]


def _ask(target: Target, ask: t.Callable[[Target], Reply] | None) -> Probe:
    started = time.monotonic()
    try:
        reply = (ask or ASK[target.kind])(target)
        return Probe(target, reply=reply, seconds=time.monotonic() - started)
    except LastroError as error:
        return Probe(target, seconds=time.monotonic() - started, finding=from_error(target.name, error))


def _hanging(target: Target) -> Probe:
    seconds = target.timeout + GRACE
    remedy = Text(en="Check the name resolution and the network of this host.", pt_BR="Verifique a resolução de nomes e a rede deste host.")
    return Probe(target, seconds=seconds, finding=Finding(target.name, f"no answer within {seconds:g} s", remedy))


__all__ = ("GRACE", "Probe", "argument_spec", "probe_all", "run", "secrets_in")
