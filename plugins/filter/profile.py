# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pure steps from a profile to what modules take."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.lastro.deploy.plugins.module_utils import _batches, _environment_file, _log_errors
from ansible_collections.lastro.deploy.plugins.module_utils._texts_format import say

TOKEN_FIGURES = ("total", "encrypted", "already", "verified", "clear_left", "null_rows", "conflicts", "seconds", "guard_trigger")


def environment_file(variables: t.Mapping[str, object]) -> str:
    """The text of an environment file."""
    return _environment_file.render(variables)


def health_checks(processes: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """The checks for M(lastro.deploy.http_check) that ask each listening process for its health.

    Where the profile names the field of the release, the answer must carry the release's id.
    """
    checks = []
    for name, spec in processes.items():
        health = spec.get("health")
        if not health:
            continue
        expect: dict[str, t.Any] = {"status": health.get("status", 200)}
        if health.get("release"):
            expect["json"] = f"{health['release']} == '{{release}}'"
        checks.append({"name": f"{name} health", "path": health["path"], "method": "GET", "expect": expect})
    return checks


def upstreams(hosts: t.Sequence[str], host_variables: t.Mapping[str, t.Any], site: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """What the proxy balances over: for each app host its address, the two ports and a loopback port on the proxy host.

    Loopback ports come from C(site.loopback_ports), a list as long as there are app hosts, else from 9101 on.
    """
    loopback = list(site.get("loopback_ports") or range(9101, 9101 + len(hosts)))
    if len(loopback) < len(hosts):
        raise AnsibleFilterError(f"deploy_site.loopback_ports has {len(loopback)} ports for {len(hosts)} app hosts.")
    found = []
    for host, port in zip(hosts, loopback, strict=False):
        ports = _ports(host_variables[host])
        address = host_variables[host].get("deploy_address", "127.0.0.1")
        found.append({"host": host, "address": address, "ports": dict(zip(("blue", "green"), ports, strict=False)), "loopback_port": port})
    return found


def _ports(variables: t.Mapping[str, t.Any]) -> list[int]:
    """The two ports of a host's first listening process: as this run has found them, else as the profile names them; zeros where it does not."""
    for name in ("switch_plan", "stage_slots"):
        if "ports" in variables.get(name, {}):
            return next(iter(variables[name]["ports"].values()), [0, 0])
    named = [spec["ports"] for spec in variables.get("deploy_processes", {}).values() if spec.get("ports")]
    return next(iter(named), [0, 0])


def batch_sizes(groups: t.Mapping[str, t.Sequence[str]]) -> list[int]:
    """What a play's C(serial) takes, from the groups that the plan made."""
    return _batches.sizes_of_groups(groups)


def before_batch(batches: t.Sequence[t.Sequence[str]], host: str) -> list[str]:
    """The hosts that must have reported before the batch of *host* begins."""
    return _batches.hosts_before(batches, host)


def judge_log_errors(count: int, gates: t.Sequence[t.Mapping[str, t.Any]], host: str) -> dict[str, t.Any]:
    """What a host's new lines of errors mean for the gates on C(log_errors)."""
    return _log_errors.judged(count, gates, host, time.time())


def pick(result: t.Mapping[str, t.Any], *names: str) -> dict[str, t.Any]:
    """The named values of a module's result, those that it has."""
    return {name: result[name] for name in names if name in result}


def token_evidence(tables: t.Sequence[t.Mapping[str, t.Any]], api_keys: t.Sequence[t.Mapping[str, t.Any]] = ()) -> dict[str, t.Any]:
    """The figures of each table that the phases protect and protect_finish prove, and the API keys that phase protect looked after."""
    if not tables and not api_keys:
        return {"skipped_because": "no tokens in the profile", "tables": []}
    found = {"tables": [pick(table, "table", *TOKEN_FIGURES) for table in tables]}
    return {**found, "api_keys": list(api_keys)} if api_keys else found


def api_key_options(key: t.Mapping[str, t.Any], newest: t.Sequence[t.Mapping[str, t.Any]] | None = None, grace: str = "") -> dict[str, t.Any]:
    """What M(lastro.deploy.api_key) takes for an item of C(deploy_api_keys).

    Where somebody asks for a rotation now, *newest* are its generations; then the next one is due whatever the item says, and ends
    the older ones after *grace*, if that is given.
    """
    options = {name: value for name, value in key.items() if name != "rotate"}
    if newest is not None:
        options.pop("rotate_if_older_than", None)
        options["generation"] = max((row["generation"] for row in newest), default=0) + 1
        options |= {"grace": grace} if grace else {}
    rotates = {"generation", "rotate_if_older_than"} & set(options)
    return {**options, "state": "rotated" if rotates else "present"}


def api_key_lines(keys: t.Sequence[t.Mapping[str, t.Any]], language: str, check: bool = False) -> str:
    """A line for each key that M(lastro.deploy.api_key) looked after."""
    made = say(language, "would be made" if check else "new", "seria criada" if check else "nova")
    same = say(language, "as before", "como antes")
    delivered = say(language, "delivered after an interrupted run", "entregue após uma execução interrompida")
    lines = []
    for key in keys:
        what = made if key["created"] else delivered if key["delivered"] else same
        revoked = f"; {say(language, 'revoked', 'revogadas')}: {', '.join(map(str, key['revoked']))}" if key["revoked"] else ""
        untold = "".join(f"; {problem}" for problem in key["notify_problems"])
        lines.append(f"{key['name']}: {say(language, 'generation', 'geração')} {key['generation']}, {what}{revoked}{untold}")
    return "\n".join(lines)


def before_switch(pending: t.Sequence[t.Mapping[str, t.Any]], when: str) -> list[t.Mapping[str, t.Any]]:
    """Those of the *pending* revisions that phase migrate runs, by C(deploy_migrations.when)."""
    if when == "after_switch":
        return []
    first = next((place for place, one in enumerate(pending) if one["kind"] == "contract"), len(pending))
    return list(pending[:first] if when == "auto" else pending)


def rollback_target(ledger: t.Mapping[str, t.Any], standalone: bool = False) -> dict[str, t.Any]:
    """The release to go back to: the live good one, or (asked for by hand) the good one before it; {} where there is none."""
    good = [release for release in ledger["releases"] if release["state"] == "good"]
    if not standalone:
        live = [release for release in good if release["id"] == ledger["live"]]
        if live:
            return dict(live[0])
    others = [release for release in good if release["id"] != ledger["live"]]
    return dict(max(others, key=lambda release: release["verified"], default={}))


def rehearsed(staged: t.Mapping[str, t.Any], seen: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """*staged*, what phase stage has read of the pending revisions, with what the module alembic_info has *seen* of them on a copy.

    A revision that breaks running code in one of both does, and one that has no way back in one of both has none.
    """
    copies = {one["revision"]: one for one in seen["pending"]}

    def both(one: dict[str, t.Any]) -> dict[str, t.Any]:
        two = (one, copies.get(one["revision"], one))
        found = {name: list(dict.fromkeys(rule for each in two for rule in each[name])) for name in ("breaking_findings", "blocking_findings")}
        kind = "contract" if any(each["kind"] == "contract" for each in two) else one["kind"]
        return {**one, **found, "kind": kind, "reversible": all(each["reversible"] for each in two)}

    needs = bool(staged["needs_maintenance"] or seen["needs_maintenance"])
    return {**staged, "pending": [both(one) for one in staged["pending"]], "needs_maintenance": needs}


def serving(hosts: t.Sequence[str], host_variables: t.Mapping[str, t.Any]) -> list[str]:
    """The releases that run on the hosts; one that could not be looked at may run any, so that it counts as C(unknown)."""
    found: dict[str, None] = {}
    for host in hosts:
        variables = host_variables[host]
        if variables.get("rollback_looked"):
            found |= dict.fromkeys(process["live_release"] for process in variables["switch_plan"]["processes"])
        else:
            found["unknown"] = None
    return [release for release in found if release]


def doors(hosts: t.Sequence[str], host_variables: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Since when each proxy host shuts users out; one that could not be looked at may let anybody in."""
    return {host: str(host_variables[host].get("rollback_door", "")) for host in hosts}


def watches_logs(watch: t.Mapping[str, t.Any]) -> bool:
    """Whether a gate of the watch is on what the application hosts log."""
    return any(gate.get("metric") == _log_errors.METRIC for gate in watch.get("gates") or ())


class FilterModule:
    """The collection's filters on profiles."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        functions: tuple[t.Callable[..., t.Any], ...] = (
            api_key_lines,
            api_key_options,
            batch_sizes,
            before_batch,
            before_switch,
            doors,
            environment_file,
            health_checks,
            judge_log_errors,
            pick,
            rehearsed,
            rollback_target,
            serving,
            token_evidence,
            upstreams,
            watches_logs,
        )
        return {function.__name__: function for function in functions}
