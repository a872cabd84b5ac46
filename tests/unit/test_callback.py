# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback that hides Ansible's own lines: a quiet run shows the phases' lines, what nobody handled, and diffs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PLAY = """
- hosts: away:named:localhost
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
      when: inventory_hostname == 'away'
    - ansible.builtin.fail: {msg: of a host with a name}
      when: inventory_hostname == 'named'

- name: Hushed play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Hushed task
      ansible.builtin.debug: {msg: hushed result}
      loop: [1, 2]
    - name: Hushed skip
      ansible.builtin.fail: {msg: never}
      when: false
    - name: Hushed retries
      ansible.builtin.debug: {msg: hushed}
      until: false
      retries: 1
      delay: 0
      ignore_errors: true
    - name: Handled
      block:
        - name: Inside
          ansible.builtin.include_tasks: inner.yml
        - name: Loops fail too
          ansible.builtin.fail: {msg: "item {{ item }}"}
          loop: [1]
      rescue:
        - lastro.deploy.outcome: {outcome: deployed, expected: [deployed]}
    - name: A diff
      ansible.builtin.copy:
        content: "new line\\n"
        dest: "{{ playbook_dir }}/file"
      notify: Hushed handler
    - name: Nobody handles this
      ansible.builtin.fail: {msg: the real reason}
      ignore_errors: "{{ forgiven | default(false) | bool }}"
  handlers:
    - name: Hushed handler
      ansible.builtin.debug: {msg: hushed}

- name: Hushed play for nobody
  hosts: nobody
  tasks: []
"""

INNER = """
- name: Deep
  ansible.builtin.fail: {msg: handled one}
"""


def play(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "play.yml").write_text(PLAY, encoding="utf-8")
    (directory / "inner.yml").write_text(INNER, encoding="utf-8")
    local = f"ansible_python_interpreter={sys.executable}"
    (directory / "hosts").write_text(
        f"localhost ansible_connection=local {local}\nnamed ansible_connection=local {local}\naway ansible_host=127.0.0.1 ansible_port=1\n[nobody]\n",
        encoding="utf-8",
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name.startswith("ANSIBLE_WORKER_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_RETRIES": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts", "play.yml", *options]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_quiet(tmp_path: Path) -> None:
    finished = play(tmp_path)
    assert finished.returncode != 0
    shown = finished.stdout + finished.stderr
    for hidden in ("hushed", "Hushed", "PLAY", "RETRYING", "handled one", "item 1", "ok:", "changed:"):
        assert hidden not in shown, shown
    assert "\noutcome: deployed\n" in finished.stdout
    assert "✖ the real reason" in shown
    assert "✖ named: of a host with a name" in shown
    assert "UNREACHABLE!" in shown and shown.count("TASK [") == 1


def test_what_is_ignored_is_no_failure_and_diffs_are_shown(tmp_path: Path) -> None:
    finished = play(tmp_path, "--diff", "--limit", "localhost", "-e", "forgiven=true")
    assert finished.returncode == 0
    assert "+new line" in finished.stdout
    assert "✖" not in finished.stdout + finished.stderr


def test_verbose_shows_everything(tmp_path: Path) -> None:
    finished = play(tmp_path, "-v", "--limit", "localhost")
    assert finished.returncode != 0
    for shown in ("PLAY [Hushed play]", "TASK [Hushed task]", "handled one", "FAILED - RETRYING", "PLAY RECAP", "the real reason"):
        assert shown in finished.stdout, shown
    assert "✖" not in finished.stdout
