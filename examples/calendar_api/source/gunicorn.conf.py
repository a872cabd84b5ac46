# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How gunicorn serves calendar-api: one process with threads, so that /metrics counts every request."""

import os

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
worker_class = "gthread"
workers = 1
threads = 8
# SIGTERM: no new connections, requests in flight may take this many seconds to finish.
graceful_timeout = 30
timeout = 60
# Longer than the proxy keeps an idle connection (Caddy: two minutes), so the proxy never sends into a closed one.
keepalive = 180
accesslog = None
errorlog = "-"
# Two releases run side by side on one host: no socket at a path that they would share.
control_socket_disable = True
