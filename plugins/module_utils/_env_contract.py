# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment file against its contract: every finding at once, and of a value nothing but its shape.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import typing as t
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import _environment_file
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._findings import Finding, findings_error, from_error
from ._postgres import parse_url
from ._token_keys import KEY_BYTES, parse_key
from ._weak_secrets import PLACEHOLDER, forms, text_weakness, weakness

TYPES = ("key", "url", "postgres_url", "redis_url", "string", "int", "bool", "choice")
_URLSAFE = str.maketrans("-_", "+/")
_BOOLEANS = ("0", "1", "false", "no", "off", "on", "true", "yes")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_ASK = {
    "key": Text(
        en="Make one with the playbook new_secrets, or: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom({bytes})).decode())'.",
        pt_BR="Gere uma com o playbook new_secrets, ou: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom({bytes})).decode())'.",
    ),
    "postgres_url": Text(
        en="Give it the form postgresql://user:password@host:5432/database, with special characters in the password percent-encoded.",
        pt_BR="Use a forma postgresql://usuario:senha@host:5432/banco, com os caracteres especiais da senha em percent-encoding.",
    ),
    "redis_url": Text(
        en="Give it the form redis://:password@host:6379/0 (rediss:// with TLS).", pt_BR="Use a forma redis://:senha@host:6379/0 (rediss:// com TLS)."
    ),
    "url": Text(en="Give it the form https://host/path.", pt_BR="Use a forma https://host/caminho."),
    "int": Text(en="Give it a whole number, such as 30.", pt_BR="Use um número inteiro, como 30."),
    "bool": Text(en="Give it true or false.", pt_BR="Use true ou false."),
    "choice": Text(en="Give it one of the choices.", pt_BR="Use uma das opções."),
    "string": Text(en="Give it a value that fits the contract in deploy_env_contract.", pt_BR="Use um valor que atenda ao contrato em deploy_env_contract."),
}


def _sized(size: int) -> Text:
    text = _ASK["key"]
    return Text(en=text.en.replace("{bytes}", str(size)), pt_BR=text.pt_BR.replace("{bytes}", str(size)))


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the contract asks of one variable. *size* is in bytes after decoding, for keys alone."""

    name: str
    kind: str = "string"
    size: int = KEY_BYTES
    min_length: int = 0
    choices: tuple[str, ...] = ()
    pattern: str = ""
    required: bool = True
    secret: bool = False

    def remedy(self) -> Text:
        """What the user does to give this variable a right value."""
        return _sized(self.size) if self.kind == "key" else _ASK[self.kind]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many variables the contract names and what is wrong with them, in the contract's order."""

    checked: int
    findings: tuple[Finding, ...]


def argument_spec() -> ArgumentSpec:
    """The options of the module env_contract."""
    return ArgumentSpec(
        options={
            "environment_file": {"type": "path", "required": True},
            "contract": {"type": "dict", "required": True},
            "report_only": {"type": "bool", "default": False},
        }
    )


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError with all findings, unless ``report_only``."""
    outcome = check_file(Path(params["environment_file"]), params["contract"])
    result: dict[str, t.Any] = {"checked": outcome.checked, "findings": [finding.as_result("variable") for finding in outcome.findings]}
    if outcome.findings and not params["report_only"]:
        count = len(outcome.findings)
        heading = f"The environment file {params['environment_file']} breaks its contract in {count} point{'s' if count > 1 else ''}"
        raise findings_error(heading, outcome.findings, **result)
    return result


def check_file(path: Path, contract: t.Mapping[str, t.Any]) -> Outcome:
    """Compare the environment file at *path* with *contract* (name -> rule, as the module documents it)."""
    rules, findings = parse_contract(contract)
    try:
        mode = path.stat().st_mode & 0o777
        variables = _environment_file.read(str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        remedy = Text(
            en="Deploy writes it from deploy_env; check the path and who owns it.",
            pt_BR="O deploy o escreve a partir de deploy_env; verifique o caminho e o dono.",
        )
        return Outcome(0, (Finding(str(path), f"cannot be read: {reason}", remedy), *findings))
    if mode & 0o177:
        remedy = Text(en=f"Run: chmod 0600 {path}", pt_BR=f"Execute: chmod 0600 {path}")
        findings = [Finding(str(path), f"has mode {mode:04o}, expected 0600 or stricter: others may read or change it", remedy), *findings]
    return Outcome(len(contract), (*findings, *check_values(rules, variables)))


def parse_contract(contract: t.Mapping[str, t.Any]) -> tuple[list[Rule], list[Finding]]:
    """The rules of *contract*, and a finding for each entry that is none itself."""
    rules: list[Rule] = []
    findings: list[Finding] = []
    for name, entry in contract.items():
        problem = _entry_problem(name, entry)
        if problem:
            remedy = Text(en="Correct this entry of deploy_env_contract.", pt_BR="Corrija esta entrada de deploy_env_contract.")
            findings.append(Finding(str(name), f"the contract's entry is wrong: {problem}", remedy))
            continue
        known = {"type": "kind", "bytes": "size", "min_length": "min_length", "pattern": "pattern", "required": "required", "secret": "secret"}
        values = {known[key]: value for key, value in (entry or {}).items() if key in known and value is not None}
        rules.append(Rule(name=name, choices=tuple(str(choice) for choice in (entry or {}).get("choices") or ()), **values))
    return rules, findings


def _entry_problem(name: object, entry: object) -> str:
    if not isinstance(name, str) or not _environment_file.NAME.match(name):
        return "its name is not a variable name (letters, digits and underscores)"
    if entry is None:
        return ""
    if not isinstance(entry, dict):
        return f"it is a {type(entry).__name__}, expected a mapping such as {{type: string}}"
    kinds: dict[str, tuple[type, ...]] = {
        "type": (str,),
        "bytes": (int,),
        "min_length": (int,),
        "choices": (list,),
        "pattern": (str,),
        "required": (bool,),
        "secret": (bool,),
    }
    unknown = sorted(str(key) for key in entry if key not in kinds)
    if unknown:
        return f"unknown {', '.join(unknown)}; known are {', '.join(kinds)}"
    for key, value in entry.items():
        if value is not None and (not isinstance(value, kinds[key]) or (isinstance(value, bool) and bool not in kinds[key])):
            return f"{key} is a {type(value).__name__}, expected {kinds[key][0].__name__}"
    return _meaning_problem(entry)


def _meaning_problem(entry: t.Mapping[str, t.Any]) -> str:
    kind = entry.get("type") or "string"
    if kind not in TYPES:
        return f"type {kind} is unknown; known are {', '.join(TYPES)}"
    if kind == "choice" and not entry.get("choices"):
        return "type choice needs choices"
    try:
        re.compile(entry.get("pattern") or "")
    except re.error as error:
        return f"pattern is no regular expression ({error})"
    return ""


def check_values(rules: t.Iterable[Rule], variables: t.Mapping[str, str]) -> list[Finding]:
    """What is wrong with *variables* under *rules*; values never appear, only their shape."""
    findings: list[Finding] = []
    secrets: dict[bytes, str] = {}
    for rule in rules:
        value = variables.get(rule.name, "")
        if not value:
            if rule.required:
                findings.append(Finding(rule.name, "is missing" if rule.name not in variables else "is empty", _missing_remedy(rule)))
            continue
        problem = _value_problem(rule, value)
        if problem:
            findings.append(problem)
            continue
        twin = _twin(rule, value, secrets)
        if twin:
            remedy = Text(en=f"Give {rule.name} and {twin} a value each.", pt_BR=f"Dê a {rule.name} e {twin} um valor próprio cada.")
            findings.append(Finding(rule.name, f"has the same value as {twin}; one leak would open both", remedy))
    return findings


def _missing_remedy(rule: Rule) -> Text:
    hint = rule.remedy()
    return Text(en=f"Set {rule.name} in deploy_env. {hint.en}", pt_BR=f"Defina {rule.name} em deploy_env. {hint.pt_BR}")


def _twin(rule: Rule, value: str, secrets: dict[bytes, str]) -> str:
    if rule.kind != "key" and not (rule.secret and rule.kind == "string"):
        return ""
    every = forms(value).union(*map(forms, value.split(",")) if rule.kind == "key" else ())
    found = next((secrets[form] for form in every if form in secrets), "")
    secrets.update({form: rule.name for form in every if form not in secrets})
    return found


def _value_problem(rule: Rule, value: str) -> Finding | None:
    if PLACEHOLDER.search(value) and (rule.kind != "string" or rule.secret or PLACEHOLDER.fullmatch(value)):
        return Finding(rule.name, f"holds a placeholder from documentation or a template ({len(value)} characters)", rule.remedy())
    try:
        problem = _CHECKS[rule.kind](rule, value) or _text_problem(rule, value)
    except LastroError as error:
        return from_error(rule.name, error)
    return Finding(rule.name, problem, _problem_remedy(rule)) if problem else None


def _problem_remedy(rule: Rule) -> Text:
    if rule.kind != "choice":
        return rule.remedy()
    choices = ", ".join(rule.choices)
    return Text(en=f"Give it one of {choices}.", pt_BR=f"Use um destes: {choices}.")


def _text_problem(rule: Rule, value: str) -> str:
    if len(value) < rule.min_length:
        return f"has {len(value)} characters, expected at least {rule.min_length}"
    if rule.pattern and not re.search(rule.pattern, value):
        return f"its {len(value)} characters do not match the pattern {rule.pattern}"
    return text_weakness(value) if rule.secret and rule.kind == "string" else ""


def _decode(text: str, size: int) -> bytes:
    if size == KEY_BYTES:
        return parse_key(text, name="it")
    try:
        key = base64.b64decode(text.strip().rstrip("=").translate(_URLSAFE) + "=" * (-len(text.strip().rstrip("=")) % 4), validate=True)
    except ValueError:
        raise LastroError(f"it is not base64 ({len(text)} characters)", remedy=_sized(size)) from None
    if len(key) != size:
        raise LastroError(f"it decodes to {len(key)} bytes, {size} are needed", remedy=_sized(size))
    return key


def _check_key(rule: Rule, value: str) -> str:
    keys = [_decode(text, rule.size) for text in value.split(",")]
    if len(set(keys)) < len(keys):
        return f"holds the same key twice among its {len(keys)}"
    return next(filter(None, map(weakness, keys)), "")


def _check_url(rule: Rule, value: str, schemes: tuple[str, ...] = ()) -> str:
    try:
        parts = urlsplit(value)
        _port = parts.port
    except ValueError:
        return f"is no URL ({len(value)} characters): its address or port cannot be read"
    if not parts.scheme or (schemes and parts.scheme not in schemes):
        return f"is no URL of the right scheme ({_scheme(value)}, {len(value)} characters)" + (f", expected {' or '.join(schemes)}" if schemes else "")
    if parts.scheme == "unix":
        return "" if unquote(parts.path) not in ("", "/") else "is a unix:// URL without a path"
    return "" if parts.hostname else f"is a URL without a host (scheme {parts.scheme})"


def _scheme(value: str) -> str:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://", value)
    return f"scheme {match[1]}" if match else "no scheme"


def _check_postgres(rule: Rule, value: str) -> str:
    parse_url(value)
    return ""


def _check_choice(rule: Rule, value: str) -> str:
    return "" if value in rule.choices else f"its {len(value)} characters are none of {', '.join(rule.choices)}"


_CHECKS: dict[str, t.Callable[[Rule, str], str]] = {
    "key": _check_key,
    "url": _check_url,
    "postgres_url": _check_postgres,
    "redis_url": lambda rule, value: _check_url(rule, value, _REDIS_SCHEMES),
    "string": lambda _rule, _value: "",
    "int": lambda _rule, value: "" if re.fullmatch(r"[+-]?\d+", value) else f"its {len(value)} characters are not a whole number",
    "bool": lambda _rule, value: "" if value.lower() in _BOOLEANS else f"its {len(value)} characters are neither true nor false",
    "choice": _check_choice,
}

__all__ = ("KEY_BYTES", "TYPES", "Outcome", "Rule", "argument_spec", "check_file", "check_values", "parse_contract", "run")
