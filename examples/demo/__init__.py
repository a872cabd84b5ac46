# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: real servers from wheels, without root or a daemon, and the story that `make demo` tells with them."""
