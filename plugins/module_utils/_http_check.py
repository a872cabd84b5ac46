# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assertions on the answers of an application: status, JSON, headers, time. PRIVATE to the collection.

The plan (``plan_checks``) is made and its faults are said before any request goes out; ``run_plan`` then asks.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import re
import time
import typing as t
from pathlib import Path

from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._findings import Finding
from ._http import MAX_PARALLEL, Answer, RequestFailedError, ask, open_session, redact_url, url_problem

try:
    import jmespath
    import jmespath.exceptions

    HAS_JMESPATH = True
except ImportError:
    HAS_JMESPATH = False

if t.TYPE_CHECKING:
    import requests

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READ_METHODS = ("GET", "HEAD", "OPTIONS")
POLL = 0.2
_RELEASE = re.compile(r"[A-Za-z0-9._+:@/-]*\Z")
_INPUT = Text(en="Correct this check in the option checks.", pt_BR="Corrija esta verificação na opção checks.")
_FAILED = Text(
    en="Look at the application's log at the time of the request; if the check itself is wrong, correct it in the profile.",
    pt_BR="Veja o log da aplicação no horário da requisição; se a própria verificação está errada, corrija-a no perfil.",
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One assertion, ready to be asked. *label* is what messages call it, *matcher* the compiled JMESPath expression."""

    name: str
    label: str
    url: str
    method: str = "GET"
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    body: object = None
    statuses: tuple[int, ...] = (200,)
    expression: str = ""
    matcher: t.Callable[[object], object] | None = None
    max_seconds: float = 0.0
    expected_headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    requests: int = 1
    parallel: int = 1


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds and counts that bound a run: see the module's options of the same names."""

    timeout: float = 5.0
    tries: int = 3
    delay: float = 1.0
    wait: float = 0.0
    follow_redirects: bool = False
    read_only: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a check ended. *status* is None where no answer came, *seconds* the slowest request of the last try."""

    check: Check
    problem: str = ""
    status: int | None = None
    seconds: float = 0.0
    tries: int = 0
    sent: bool = True

    def as_result(self) -> dict[str, t.Any]:
        """The check as a return value."""
        return {
            "name": self.check.name,
            "url": redact_url(self.check.url),
            "method": self.check.method,
            "ok": not self.problem,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "tries": self.tries,
            "sent": self.sent,
            "problem": self.problem,
        }


def argument_spec() -> ArgumentSpec:
    """The options of the module http_check."""
    expect: dict[str, t.Any] = {
        "status": {"type": "list", "elements": "int"},
        "json": {"type": "str"},
        "max_seconds": {"type": "float"},
        "header": {"type": "dict"},
    }
    check: dict[str, t.Any] = {
        "name": {"type": "str"},
        "path": {"type": "str", "required": True},
        "method": {"type": "str", "default": "GET", "choices": list(METHODS)},
        "headers": {"type": "dict"},
        "body": {"type": "dict"},
        "expect": {"type": "dict", "options": expect},
        "requests": {"type": "int", "default": 1},
        "parallel": {"type": "int", "default": 1},
    }
    return ArgumentSpec(
        options={
            "base_url": {"type": "str", "required": True},
            "checks": {"type": "list", "elements": "dict", "required": True, "options": check},
            "release": {"type": "str"},
            "headers": {"type": "dict"},
            "header_files": {"type": "dict"},
            "ca_cert": {"type": "path"},
            "timeout": {"type": "float", "default": 5.0},
            "tries": {"type": "int", "default": 3},
            "delay": {"type": "float", "default": 1.0},
            "wait": {"type": "float", "default": 0.0},
            "follow_redirects": {"type": "bool", "default": False},
            "report_only": {"type": "bool", "default": False},
        }
    )


def run(params: t.Mapping[str, t.Any], *, check_mode: bool = False) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError for bad input, and for failing checks unless ``report_only``."""
    limits = Limits(
        timeout=params["timeout"],
        tries=params["tries"],
        delay=params["delay"],
        wait=params["wait"],
        follow_redirects=params["follow_redirects"],
        read_only=check_mode,
    )
    if min(limits.timeout, limits.tries) <= 0 or min(limits.delay, limits.wait) < 0:
        raise LastroError(
            "timeout and tries must be above 0, delay and wait not below.", remedy=Text(en="Correct these options.", pt_BR="Corrija essas opções.")
        )
    checks = plan_checks(params)
    started = time.monotonic()
    with open_session(params.get("ca_cert")) as session:
        verdicts = run_plan(checks, limits, session)
    return _result(verdicts, time.monotonic() - started, report_only=params["report_only"])


def _result(verdicts: t.Sequence[Verdict], seconds: float, *, report_only: bool) -> dict[str, t.Any]:
    failing = [verdict for verdict in verdicts if verdict.problem]
    result: dict[str, t.Any] = {
        "checks": [verdict.as_result() for verdict in verdicts],
        "passed": len(verdicts) - len(failing),
        "total": len(verdicts),
        "seconds": round(seconds, 3),
        "findings": [Finding(verdict.check.label, verdict.problem, _FAILED).as_result("check") for verdict in failing],
    }
    if failing and not report_only:
        raise LastroError("\n".join(f"{verdict.check.label}: {verdict.problem}" for verdict in failing), remedy=_FAILED, **result)
    return result


def plan_checks(params: t.Mapping[str, t.Any]) -> list[Check]:
    """The checks of the module's options. Raises LastroError for bad input, naming each check that has it."""
    problem = url_problem(params["base_url"])
    if problem:
        raise LastroError(f"base_url {problem}.", remedy=Text(en="Give it the form http://host:port.", pt_BR="Use a forma http://host:porta."))
    release = params.get("release")
    if not _RELEASE.match(release or ""):
        raise LastroError(
            "release has characters that a release id cannot have.",
            remedy=Text(en="Use letters, digits and . _ + : @ / -.", pt_BR="Use letras, dígitos e . _ + : @ / -."),
        )
    common = {**{name: str(value) for name, value in (params.get("headers") or {}).items()}, **read_header_files(params.get("header_files") or {})}
    checks: list[Check] = []
    problems: list[str] = []
    for entry in params["checks"]:
        try:
            checks.append(_plan_check(entry, params["base_url"], release, common))
        except ValueError as error:
            problems.append(f"{entry.get('name') or entry['method'] + ' ' + entry['path']}: {error}")
    if problems or not checks:
        raise LastroError("\n".join(problems) or "checks is empty.", remedy=_INPUT)
    return checks


def _plan_check(entry: t.Mapping[str, t.Any], base_url: str, release: str | None, common: t.Mapping[str, str]) -> Check:
    expect = entry.get("expect") or {}

    def filled(text: object) -> str:
        if "{release}" in str(text) and not release:
            raise ValueError("it names {release}, but the option release is empty")
        return str(text).replace("{release}", release or "")

    if not entry["path"].startswith("/"):
        raise ValueError("path must start with /")
    if not 1 <= entry["requests"] <= 100_000 or not 1 <= entry["parallel"] <= MAX_PARALLEL:
        raise ValueError(f"requests must be 1 to 100000, parallel 1 to {MAX_PARALLEL}")
    if (expect.get("max_seconds") or 0) < 0:
        raise ValueError("max_seconds must not be below 0")
    path = filled(entry["path"])
    label = f"{entry['method']} {path.partition('?')[0]}"
    expression = filled(expect.get("json") or "")
    return Check(
        name=entry.get("name") or label,
        label=label,
        url=base_url.rstrip("/") + path,
        method=entry["method"],
        headers={**common, **{name: str(value) for name, value in (entry.get("headers") or {}).items()}},
        body=entry.get("body"),
        statuses=tuple(expect.get("status") or (200,)),
        expression=expression,
        matcher=compile_expression(expression) if expression else None,
        max_seconds=expect.get("max_seconds") or 0.0,
        expected_headers={name: filled(value) for name, value in (expect.get("header") or {}).items()},
        requests=entry["requests"],
        parallel=entry["parallel"],
    )


def compile_expression(expression: str) -> t.Callable[[object], object]:
    """A function that evaluates the JMESPath *expression*. Raises ValueError where it does not parse, LastroError without the library."""
    if not HAS_JMESPATH:
        raise LastroError(
            "This Python has no jmespath.",
            remedy=Text(
                en="Install jmespath in the interpreter that ansible_python_interpreter names for this host.",
                pt_BR="Instale jmespath no interpretador que ansible_python_interpreter indica para este host.",
            ),
        )
    try:
        search: t.Callable[[object], object] = jmespath.compile(expression).search
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"the JMESPath expression {expression!r} does not parse: {' '.join(str(error).split())}") from None
    return search


def read_header_files(files: t.Mapping[str, str]) -> dict[str, str]:
    """Header values from files (header name -> path). Raises LastroError where one is unreadable or open to others."""
    headers: dict[str, str] = {}
    for name, path in files.items():
        remedy = Text(en=f"Put the value of {name} in {path}, mode 0600.", pt_BR=f"Coloque o valor de {name} em {path}, modo 0600.")
        try:
            with Path(path).open(encoding="utf-8") as stream:
                mode = os.fstat(stream.fileno()).st_mode & 0o777
                value = stream.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise LastroError(f"The header file {path} cannot be read: {reason}.", remedy=remedy) from None
        if mode & 0o177:
            raise LastroError(f"The header file {path} has mode {mode:04o}, expected 0600 or stricter.", remedy=remedy)
        if not value or "\n" in value:
            raise LastroError(f"The header file {path} must hold one line.", remedy=remedy)
        headers[name] = value
    return headers


def run_plan(checks: t.Sequence[Check], limits: Limits, session: requests.Session) -> list[Verdict]:
    """Ask each check in turn, with tries; with ``limits.wait`` the whole list again until all pass or the time is over."""
    if not limits.wait:
        return [_with_tries(check, limits, session) for check in checks]
    started = time.monotonic()
    rounds = 0
    while True:
        rounds += 1
        remaining = started + limits.wait - time.monotonic()
        bounded = dataclasses.replace(limits, timeout=max(min(limits.timeout, remaining), POLL))
        verdicts = [dataclasses.replace(_one_try(check, bounded, session), tries=rounds) for check in checks]
        elapsed = time.monotonic() - started
        if not any(verdict.problem for verdict in verdicts):
            return verdicts
        if elapsed >= limits.wait:
            return [_annotated(verdict, f"{rounds} {'try' if rounds == 1 else 'tries'} in {elapsed:.1f} s") for verdict in verdicts]
        time.sleep(min(POLL, max(limits.wait - elapsed, 0.0)))


def _annotated(verdict: Verdict, note: str) -> Verdict:
    return dataclasses.replace(verdict, problem=f"{verdict.problem} ({note})") if verdict.problem else verdict


def _with_tries(check: Check, limits: Limits, session: requests.Session) -> Verdict:
    for attempt in range(1, limits.tries + 1):
        verdict = dataclasses.replace(_one_try(check, limits, session), tries=attempt)
        if not verdict.problem:
            return verdict
        if attempt < limits.tries:
            time.sleep(limits.delay)
    return _annotated(verdict, f"{limits.tries} of {limits.tries} {'try' if limits.tries == 1 else 'tries'}")


def _one_try(check: Check, limits: Limits, session: requests.Session) -> Verdict:
    """All requests of *check*, ``parallel`` at once, until one is wrong."""
    if limits.read_only and check.method not in READ_METHODS:
        return Verdict(check, sent=False)
    slowest = Verdict(check)
    with concurrent.futures.ThreadPoolExecutor(max_workers=check.parallel) as pool:
        for first in range(0, check.requests, check.parallel):
            count = min(check.parallel, check.requests - first)
            for offset, verdict in enumerate(pool.map(lambda _unused: _one_request(check, limits, session), range(count)), start=1):
                if verdict.problem and check.requests > 1:
                    return dataclasses.replace(verdict, problem=f"{verdict.problem} (request {first + offset} of {check.requests})")
                if verdict.problem:
                    return verdict
                slowest = max(slowest, verdict, key=lambda one: one.seconds)
    return slowest


def _one_request(check: Check, limits: Limits, session: requests.Session) -> Verdict:
    started = time.monotonic()
    try:
        answer = ask(
            session,
            check.url,
            method=check.method,
            headers=check.headers,
            json=check.body,
            timeout=limits.timeout,
            follow_redirects=limits.follow_redirects,
        )
    except RequestFailedError as error:
        return Verdict(check, problem=str(error), seconds=time.monotonic() - started)
    return Verdict(check, problem=judge(check, answer), status=answer.status, seconds=answer.seconds)


def judge(check: Check, answer: Answer) -> str:
    """What is wrong with *answer* under *check*, in words; empty where all is well. Shows neither body nor header values."""
    if answer.status not in check.statuses:
        return f"{answer.status}, expected {' or '.join(str(status) for status in check.statuses)}"
    for name, value in check.expected_headers.items():
        found = answer.headers.get(name)
        if found != value:
            return f"{answer.status}, but the header {name} {'is missing' if found is None else 'has another value than expected'}"
    if check.matcher is not None:
        problem = _judge_json(check, check.matcher, answer)
        if problem:
            return f"{answer.status}, but {problem}"
    if check.max_seconds and answer.seconds > check.max_seconds:
        return f"{answer.status} after {answer.seconds:.3f} s, expected at most {check.max_seconds:g} s"
    return ""


def _judge_json(check: Check, matcher: t.Callable[[object], object], answer: Answer) -> str:
    try:
        document = json.loads(answer.body)
    except ValueError:
        kind = answer.headers.get("Content-Type", "no content type").partition(";")[0]
        return f"its body is not JSON ({kind}, {len(answer.body)} bytes)"
    try:
        fulfilled = matcher(document)
    except (jmespath.exceptions.JMESPathError, TypeError, ValueError) as error:
        return f"{check.expression} cannot be evaluated on its JSON ({type(error).__name__})"
    return "" if fulfilled else f"its JSON does not fulfil {check.expression}"


__all__ = ("METHODS", "Check", "Limits", "Verdict", "argument_spec", "judge", "plan_checks", "read_header_files", "run", "run_plan")
