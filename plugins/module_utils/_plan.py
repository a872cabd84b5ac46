# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an inventory to a plan: everything in a profile that is wrong or not filled in, before any host is contacted.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from ._api_key import api_key_argument_spec
from ._batches import EXAMPLE, size_problem
from ._decide import SCOPES
from ._environment_file import NAME
from ._errors import LastroError
from ._evidence import key_problem
from ._gates import parse_duration, parse_gates, parse_positive, parse_times
from ._postgres import connection_argument_spec
from ._systemd_unit import LIMITS

PLACEHOLDER = "FILL_IN"
STRATEGIES = ("supervisor", "systemd")
PROXIES = ("caddy", "none")
SOURCES = ("git", "archive")
ENVIRONMENTS = ("demo", "staging", "prod")
LANGUAGES = ("en", "pt_BR")
WHEN = ("auto", "before_switch", "after_switch")
LIMITED = "deploy_limited"
"""The group of the hosts that ``--limit`` has left, where it was given; the playbook ``limit`` makes it."""

GATE = '{metric: error_rate, op: "<=", value: 1%}'
BACKUP_PROVIDERS = ("pg_dump", "pgbackrest")
MAINTENANCE = ("auto", "always", "never")
ROTATE = ("by_hand", "deploy")

RUN_TIME_INPUTS = frozenset({"deploy_reason", "deploy_force_unlock", "deploy_rollback_scope", "deploy_accept_loss", "deploy_accept_limit", "deploy_actor"})
HOST_OPTIONS = frozenset({"deploy_address"})
"""What stands behind a host's name in the inventory, not in the profile."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to correct: the option, what is wrong with its value (its shape, never a secret), and the remedy."""

    option: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.option}: {self.problem} {self.remedy}"


Profile = t.Mapping[str, t.Any]
Groups = t.Mapping[str, t.Sequence[str]]
Check = t.Callable[[Profile], t.Iterable[Finding]]


def findings(profile: Profile, groups: Groups, known: t.Collection[str], unreadable: t.Mapping[str, str]) -> list[Finding]:
    """All findings at once, in the order of the profile.

    *known* are the names of all options; *unreadable* maps options whose value cannot be evaluated to the reason.
    """
    found = [Finding(name, f"cannot be evaluated: {reason}", "Set what it refers to.") for name, reason in unreadable.items()]
    found += _unfilled(profile, groups)
    found += _unknown(profile, known)
    found += _groups(profile, groups)
    found += _limit(profile, groups)
    blamed = {finding.option.partition(".")[0] for finding in found}
    for check in (_required, _choices, _source, _processes, _environment, _database, _backup, _lists, _api_keys, _batches, _seconds, _watch, _evidence_between):
        found += [finding for finding in check(profile) if finding.option.partition(".")[0] not in blamed]
    return found


def _unfilled(profile: Profile, groups: Groups) -> list[Finding]:
    hosts = sorted({host for name, members in groups.items() if name != "all" for host in members if PLACEHOLDER in host})
    found = [Finding("hosts", f"{host} is still the template's.", "Put your host's name there.") for host in hosts]
    for name, value in profile.items():
        for path in _placeholders(name, value):
            found.append(Finding(path, "is not filled in.", f"Replace {PLACEHOLDER} in the inventory's group_vars."))
    return found


def _placeholders(path: str, value: object) -> list[str]:
    if isinstance(value, str):
        return [path] if PLACEHOLDER in value else []
    if isinstance(value, t.Mapping):
        return [found for key, item in value.items() for found in _placeholders(f"{path}.{key}", item)]
    if isinstance(value, list | tuple):
        return [found for index, item in enumerate(value) for found in _placeholders(f"{path}[{index}]", item)]
    return []


def _unknown(profile: Profile, known: t.Collection[str]) -> list[Finding]:
    found = []
    for name in sorted(set(profile) - set(known) - RUN_TIME_INPUTS - HOST_OPTIONS):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else "See docs/profile.md for the options."
        found.append(Finding(name, "is not an option.", hint))
    return found


def _groups(profile: Profile, groups: Groups) -> list[Finding]:
    found = []
    if len(groups.get("primary", ())) != 1:
        found.append(Finding("primary", f"the group has {len(groups.get('primary', ()))} hosts.", "Put exactly one host in it; it may be one of app."))
    if not groups.get("app"):
        found.append(Finding("app", "the group has no host.", "Put the hosts that run the application in it."))
    if profile.get("deploy_proxy", "caddy") != "none" and not groups.get("proxy"):
        found.append(Finding("proxy", "the group has no host.", "Put the proxy's hosts in it, or set deploy_proxy: none."))
    return found


def taking_part(groups: Groups) -> dict[str, list[str]]:
    """The hosts of app, proxy and primary that take part: all, or those that ``--limit`` has left (group ``deploy_limited``)."""
    limited = groups.get(LIMITED)
    return {name: [host for host in groups.get(name, ()) if limited is None or host in limited] for name in ("app", "proxy", "primary")}


def _limit(profile: Profile, groups: Groups) -> list[Finding]:
    """What a run on a part of the hosts cannot do without."""
    part = taking_part(groups)
    found = [
        Finding("--limit", f"leaves out {host} of the group {name}.", "Only hosts of app may be left out: the others are needed in every run.")
        for name in ("proxy", "primary")
        for host in groups.get(name, ())
        if host not in part[name]
    ]
    processes = profile.get("deploy_processes")
    free = [name for name, spec in processes.items() if isinstance(spec, t.Mapping) and spec.get("ports") == []] if isinstance(processes, t.Mapping) else []
    if len(part["app"]) < len(groups.get("app", ())) and free:
        found.append(Finding(f"deploy_processes.{free[0]}.ports", "is [], so the ports of a host that is left out are not known.", "Name two ports."))
    return found


def _batches(profile: Profile) -> t.Iterable[Finding]:
    sizes = profile.get("deploy_batches", [1])
    if not isinstance(sizes, list) or not sizes:
        yield Finding("deploy_batches", "is not a list of sizes.", f"Give it the form {EXAMPLE}: numbers of hosts, or shares of all.")
        return
    for wrong in filter(None, map(size_problem, sizes)):
        yield Finding("deploy_batches", wrong, f"Give it the form {EXAMPLE}: numbers of hosts, or shares of all.")


def _seconds(profile: Profile) -> t.Iterable[Finding]:
    """Nothing renews the lease while a host starts or drains."""
    lease = profile.get("deploy_lease_seconds", 120)
    for name in ("deploy_start_seconds", "deploy_drain_seconds"):
        value = profile.get(name, 0)
        if not str(value).isdigit() or not str(lease).isdigit() or int(value) > int(lease) // 2:
            yield Finding(name, f"is {value}.", f"Give it whole seconds, at most half of deploy_lease_seconds ({lease}).")


def _required(profile: Profile) -> t.Iterable[Finding]:
    for name in ("deploy_app", "deploy_version", "deploy_root", "deploy_state_dir", "deploy_environment"):
        if not str(profile.get(name) or "").strip():
            yield Finding(name, "is missing.", "Set it in the inventory's group_vars.")
    for name in ("deploy_root", "deploy_state_dir"):
        value = str(profile.get(name) or "")
        if value and not value.startswith("/"):
            yield Finding(name, "is not an absolute path.", "Start it with a slash.")


def _choices(profile: Profile) -> t.Iterable[Finding]:
    for name, allowed in (
        ("deploy_strategy", STRATEGIES),
        ("deploy_proxy", PROXIES),
        ("deploy_environment", ENVIRONMENTS),
        ("deploy_language", LANGUAGES),
        ("deploy_maintenance", MAINTENANCE),
        # A restore is not asked for here but with restore.yml, which compares and refuses a loss.
        ("deploy_rollback_scope", tuple(scope for scope in SCOPES if scope != "restore")),
    ):
        value = profile.get(name)
        if value not in (None, "") and value not in allowed:
            yield Finding(name, f"is {value!r}.", f"Choose one of {', '.join(allowed)}.")


def _source(profile: Profile) -> t.Iterable[Finding]:
    source = profile.get("deploy_source")
    if not isinstance(source, t.Mapping) or not source.get("url"):
        yield Finding(
            "deploy_source",
            "names no url.",
            "Give it the form {type: git, url: ..., version: ...} or {type: archive, url: /path/to/release.tar.gz, sha256: ...}.",
        )
    elif source.get("type") not in SOURCES:
        yield Finding("deploy_source.type", f"is {source.get('type')!r}.", f"Choose one of {', '.join(SOURCES)}.")


def _processes(profile: Profile) -> t.Iterable[Finding]:
    processes = profile.get("deploy_processes")
    if not isinstance(processes, t.Mapping) or not processes:
        yield Finding(
            "deploy_processes",
            "names no process.",
            'Give it the form {web: {command: "gunicorn --bind {bind} app:app", ports: [8001, 8002], health: {path: /health}}}.',
        )
        return
    for name, spec in processes.items():
        option = f"deploy_processes.{name}"
        if not isinstance(spec, t.Mapping) or not spec.get("command"):
            yield Finding(option, "has no command.", "Give it the command line that starts the process.")
            continue
        ports = spec.get("ports")
        if ports is not None and (not isinstance(ports, list) or len(ports) not in (0, 2)):
            yield Finding(f"{option}.ports", "is not a list of two ports.", "Name one port for each slot, or [] for free ones.")
        if ports is not None and not spec.get("health"):
            yield Finding(f"{option}.health", "is missing.", "Name the path that answers 200 when the process is ready: {path: /health, release: release}.")
        yield from _sandbox(option, spec, str(profile.get("deploy_strategy", "")))


def _sandbox(option: str, spec: t.Mapping[str, t.Any], strategy: str) -> t.Iterable[Finding]:
    """What systemd alone can hold a process to."""
    if strategy != "systemd":
        for name in ("limits", "writable"):
            if spec.get(name):
                yield Finding(f"{option}.{name}", "is for systemd alone.", "Set deploy_strategy: systemd, or leave it out.")
        return
    limits, writable = spec.get("limits") or {}, spec.get("writable") or []
    example = "{" + ", ".join(f"{name}: {limit.example}" for name, limit in LIMITS.items()) + "}"
    if not isinstance(limits, t.Mapping):
        yield Finding(f"{option}.limits", "is not a dictionary.", f"Give it the form {example}.")
    elif bad := [f"{name}: {value}" for name, value in limits.items() if name not in LIMITS or not LIMITS[name].takes(value)]:
        yield Finding(f"{option}.limits", f"has {', '.join(bad)}.", f"Give it the form {example}; each may be left out.")
    if not isinstance(writable, list) or not all(isinstance(path, str) and path.startswith("/") for path in writable):
        yield Finding(f"{option}.writable", "is not a list of absolute paths.", "Name the directories that the process writes to.")


def _environment(profile: Profile) -> t.Iterable[Finding]:
    variables = profile.get("deploy_env")
    if not isinstance(variables, t.Mapping):
        yield Finding("deploy_env", "is not a dictionary.", "Give it the form {DATABASE_URL: ..., SECRET_KEY: ...}.")
        return
    for name in variables:
        if not NAME.match(str(name)):
            yield Finding(f"deploy_env.{name}", "is not a variable's name.", "Use letters, digits and underscores.")


def _database(profile: Profile) -> t.Iterable[Finding]:
    database = profile.get("deploy_database")
    if not isinstance(database, t.Mapping) or not database.get("url"):
        yield Finding("deploy_database", "has no url.", 'Give it the form {url: "{{ deploy_env.DATABASE_URL }}"}.')
    migrations = profile.get("deploy_migrations") or {}
    if isinstance(migrations, t.Mapping) and migrations.get("when", "auto") not in WHEN:
        yield Finding("deploy_migrations.when", f"is {migrations['when']!r}.", f"Choose one of {', '.join(WHEN)}.")
    if isinstance(migrations, t.Mapping) and migrations.get("rehearsal_url") and migrations.get("rehearsal_cluster"):
        yield Finding("deploy_migrations", "has rehearsal_url and rehearsal_cluster.", "Name one place for the copy.")


def _backup(profile: Profile) -> t.Iterable[Finding]:
    backup = profile.get("deploy_backup")
    chosen = backup if isinstance(backup, t.Mapping) else {}
    provider = chosen.get("provider", "pg_dump")
    if provider not in BACKUP_PROVIDERS:
        yield Finding("deploy_backup.provider", f"is {provider!r}.", f"Choose one of {', '.join(BACKUP_PROVIDERS)}.")
    elif provider == "pgbackrest":
        if not chosen.get("stanza"):
            yield Finding("deploy_backup.stanza", "is missing.", "Name pgBackRest's stanza of the database's cluster.")
    else:
        yield from _dump(chosen)


def _dump(backup: t.Mapping[str, t.Any]) -> t.Iterable[Finding]:
    if not backup.get("dest"):
        yield Finding("deploy_backup", "has no dest.", "Name the directory on the primary host that keeps the backups.")
        return
    if backup.get("encryption", "age") == "age" and not backup.get("recipients"):
        yield Finding("deploy_backup.recipients", "is empty.", "Name at least one age recipient (age1...; new_secrets.yml makes one), or say encryption: none.")
    upload = backup.get("upload")
    if upload is not None and not (isinstance(upload, t.Mapping) and upload.get("remote") and upload.get("path")):
        yield Finding("deploy_backup.upload", "has no remote and path.", "Name both, as in {remote: offsite, path: backups/app, config: {type: s3, ...}}.")
    elif upload and upload.get("config") and not upload["config"].get("type"):
        yield Finding("deploy_backup.upload.config", "has no type.", "Say what kind of store it is, as in rclone.conf: s3, sftp, azureblob and others.")


def _lists(profile: Profile) -> t.Iterable[Finding]:
    for name in ("deploy_tokens", "deploy_api_keys", "deploy_indexes", "deploy_smoke", "deploy_signoffs"):
        value = profile.get(name)
        if value is not None and not isinstance(value, list):
            yield Finding(name, f"is a {type(value).__name__}.", "Give it a list.")


def _api_keys(profile: Profile) -> t.Iterable[Finding]:
    """What the module api_key would refuse in the middle of a run."""
    keys, spec = profile.get("deploy_api_keys"), api_key_argument_spec()
    sinks: dict[object, str] = {}
    known = {"rotate", *spec.options} - {"state", "return_secret", *connection_argument_spec().options}
    for index, key in enumerate(keys if isinstance(keys, list) else ()):
        option = f"deploy_api_keys[{index}]"
        if not isinstance(key, t.Mapping) or not key.get("name") or not key.get("sink"):
            yield Finding(option, "has no name or no sink.", "Give it the form {name: auditor, rotate_if_older_than: 90d, sink: {file: /path/to/key}}.")
            continue
        if key.get("rotate", ROTATE[0]) not in ROTATE:
            yield Finding(f"{option}.rotate", f"is {key['rotate']!r}.", f"Choose one of {', '.join(ROTATE)}.")
        other = sinks.setdefault(key["sink"].get("file") if isinstance(key["sink"], t.Mapping) else option, option)
        if other != option:
            yield Finding(f"{option}.sink", f"is the file of {other}.", "Give each key a file of its own.")
        unknown = sorted(set(key) - known)
        if unknown:
            yield Finding(f"{option}.{unknown[0]}", "is not an option.", "See docs/profile.md for the options.")
            continue
        try:
            spec.checked(option, {"environment_file": "/", **{name: value for name, value in key.items() if name != "rotate"}})
            for name in ("grace", "rotate_if_older_than"):
                parse_duration(key.get(name, 0), f"{option}.{name}")
        except LastroError as error:
            yield Finding(option, error.message.removeprefix(f"{option}: "), error.remedy.en)


def _watch(profile: Profile) -> t.Iterable[Finding]:
    """A watch that could never be judged would come out only after the switch."""
    watch = profile.get("deploy_watch")
    if not watch:
        return
    if not isinstance(watch, t.Mapping) or not all(isinstance(gate, t.Mapping) for gate in watch.get("gates") or ()):
        yield Finding("deploy_watch", "is not a dictionary with a list of gates.", f"Give it the form {{for: 5m, gates: [{GATE}]}}.")
        return
    gates = watch.get("gates") or []
    incomplete = [f"gates[{index}]" for index, gate in enumerate(gates) if not {"metric", "op", "value"} <= set(gate)]
    if incomplete:
        yield Finding(f"deploy_watch.{incomplete[0]}", "lacks one of metric, op, value.", f"Give it the form {GATE}.")
        return
    sources = [name for name in ("probes", "metrics_urls") if watch.get(name)]
    try:
        duration, _interval = parse_times(watch.get("for", "5m"), watch.get("interval", "5s"), duration_option="for")
        if gates:
            parse_gates(gates, sources=[*sources, "database", "logs"], duration=duration)
    except LastroError as error:
        yield Finding("deploy_watch", error.message, error.remedy.en)


def _evidence_between(profile: Profile) -> t.Iterable[Finding]:
    """What this environment proves to the next one, or wants proved by the one before."""
    evidence = profile.get("deploy_evidence")
    if not evidence:
        return
    if not isinstance(evidence, t.Mapping):
        yield Finding("deploy_evidence", "is not a dictionary.", "Give it the form {key: ..., from: staging, max_age: 7d}.")
        return
    if wrong := key_problem(evidence.get("key")):
        yield Finding("deploy_evidence.key", wrong, "Give staging and production the same 32 random bytes: openssl rand -base64 32.")
    if evidence.get("from") not in (None, "", *(one for one in ENVIRONMENTS if one != profile.get("deploy_environment"))):
        yield Finding("deploy_evidence.from", f"is {evidence['from']!r}.", "Name another environment, such as staging.")
    try:
        parse_positive(evidence.get("max_age", "7d"), "max_age")
    except LastroError as error:
        yield Finding("deploy_evidence", error.message, error.remedy.en)


__all__ = ("PLACEHOLDER", "Finding", "findings", "taking_part")
