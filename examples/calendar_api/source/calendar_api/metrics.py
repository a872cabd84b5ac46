# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of this process."""

import prometheus_client
from flask import Request, Response

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """A registry of its own for each application."""

    content_type = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.requests = prometheus_client.Counter(
            "http_requests_total", "Requests that were answered, by the route that took them.", ["method", "status", "path"], registry=self.registry
        )

    def count(self, request: Request, response: Response) -> None:
        """Count a request under its route, never under its address: users' ids would make a series each."""
        rule = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in METHODS else "other"
        self.requests.labels(method=method, status=str(response.status_code), path=rule).inc()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return prometheus_client.generate_latest(self.registry)
