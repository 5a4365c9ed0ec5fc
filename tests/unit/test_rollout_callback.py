"""What a person sees of a rollout, and that nothing of it can break the run: whole playbooks, with actions that only pretend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import rollout_events as events

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_announce

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "glsa_never_to_be_shown"
HOSTS = ("home1", "home2", "home3")

RETURN_PLAN = """
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        decisions = [{"at": 1795262390.0, "said": "confirmed by hand"}]
        return {"changed": False, "rollout_plan": json.loads(task_vars["told_plan"]), "decisions": decisions}
"""
RETURN_TRANSACTION = """
import json
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.hearth.fleet.plugins.module_utils import rollout_report

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        told = json.loads(task_vars["told"])[task_vars["inventory_hostname"]]
        for one in [one for one in (told.get("transaction") or {}).get("phases") or [] if one and "end" in one]:
            width = max(map(len, task_vars["ansible_play_hosts_all"]))
            Display().display(rollout_report.line(task_vars["inventory_hostname"], one["phase"], one["end"] - one["begin"], one["said"], width))
        return told
"""
PLAYBOOK = """
- name: Look
  hosts: home*
  gather_facts: false
  tasks:
    - name: Find all as it should be
      ansible.builtin.assert: {that: true, quiet: true}
    - name: Skip what is not due
      ansible.builtin.assert: {that: false}
      when: false
    - name: Say what a person asked for
      ansible.builtin.debug:
        msg: a word for people
      run_once: true
    - name: Change something
      ansible.builtin.add_host: {name: another}
      changed_when: true
    - name: Include more
      ansible.builtin.include_tasks: more.yml
- name: Nobody is here
  hosts: "{{ groups['nobody'] | default([]) }}"
  gather_facts: false
  tasks: []
- name: Plan
  hosts: home1
  gather_facts: false
  tasks:
    - name: Plan the rollout
      hearth.fleet.rollout_plan:
- name: Roll out
  hosts: home*
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Take up what was interrupted
      hearth.fleet.transaction: {order: "{{ item }}"}
      loop: []
    - name: Go batch by batch
      ansible.builtin.include_tasks: batch.yml
      loop: [[home1], [home2, home3]]
      loop_control: {loop_var: batch}
"""

BATCH = """
- name: Take the host through it
  hearth.fleet.transaction: {order: {}, batch: "{{ batch }}"}
  when: inventory_hostname in batch
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with a playbook and a collection whose actions return what the variables say."""
    plugins = tmp_path / "collections/ansible_collections/hearth/fleet/plugins"
    (plugins / "action").mkdir(parents=True)
    (plugins / "action/rollout_plan.py").write_text(RETURN_PLAN)
    (plugins / "action/transaction.py").write_text(RETURN_TRANSACTION)
    for kind in ("callback", "module_utils"):
        (plugins / kind).symlink_to(ROOT / "plugins" / kind)
    (tmp_path / "site.yml").write_text(PLAYBOOK)
    (tmp_path / "more.yml").write_text("- name: Find that fine too\n  ansible.builtin.assert: {that: true, quiet: true}\n")
    (tmp_path / "batch.yml").write_text(BATCH)
    (tmp_path / "hosts").write_text("".join(f"{host} ansible_connection=local ansible_python_interpreter={sys.executable}\n" for host in HOSTS))
    return tmp_path


def three() -> dict[str, Any]:
    """Return the plan of three hosts in two batches."""
    batches = [
        {"service": "nats-server", "number": number, "of": 2, "canary": number == 1, "tier": "tier2", "hosts": hosts}
        for number, hosts in enumerate((["home1"], ["home2", "home3"]), 1)
    ]
    return events.plan(batches=batches, rows=[row for row in events.plan()["rows"] if row["host"] in HOSTS], id=events.ID, skipped=[])


def good() -> dict[str, Any]:
    return {host: {"changed": True, "transaction": events.state(), "batch": None} for host in HOSTS}


def play(site: Path, told: Mapping[str, Any], *arguments: str, plan: Any = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook, as somebody who has chosen the callback."""
    variables = {"told": json.dumps(told), "told_plan": json.dumps(three() if plan is None else plan)}
    (site / "variables.json").write_text(json.dumps(variables))
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(site),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_STDOUT_CALLBACK": "hearth.fleet.rollout",
        "ANSIBLE_COLLECTIONS_PATH": str(site / "collections"),
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        **environment,
    }
    playbook = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts", "-e", "@variables.json", *arguments, "site.yml"]
    return subprocess.run(playbook, cwd=site, env=settings, capture_output=True, text=True, timeout=120, check=False)


def report(site: Path, name: str = f"reports/rollout-{events.ID}") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site / f"{name}.json").read_text())
    return found


def test_a_rollout_is_shown_phase_by_phase_and_the_rest_quietly(site: Path) -> None:
    run = play(site, good())
    assert run.returncode == 0, run.stdout + run.stderr
    shown = run.stdout.splitlines()
    assert "home1  drain            9.0 s  drained: 0 of 214 connections left" in shown
    assert "home2  committed         53 s  runs 2.12.8" in shown
    assert "a word for people" in run.stdout
    assert "Change something" in run.stdout
    assert "2.12.8 runs on 3 hosts" in run.stdout
    for noise in (
        "Find all",
        "Skip what",
        "Nobody is here",
        "included:",
        "Find that",
        "skipping:",
        "TASK [Take",
        "TASK [Plan the",
    ):
        assert noise not in run.stdout
    assert [line for line in shown if line.startswith("batch ")] == [
        "batch 1 of 2, nats-server, tier2, canary: home1 (0 of 3 done, about 1m40s left)",
        "batch 2 of 2, nats-server, tier2: home2, home3 (1 of 3 done, about 53s left)",
    ]
    assert "WARNING" not in run.stderr.replace("[WARNING]: Could not match", "")


def test_a_hosts_outcome_stands_below_its_phases(site: Path) -> None:
    shown = [line for line in play(site, good()).stdout.splitlines() if line.startswith("home1 ")]
    lines = [line for line in shown if not line.startswith(("home1  nats-server", "home1 :")) and " : ok=" not in line]
    assert [line.split()[1] for line in lines] == [*events.FORWARD, "committed"]
    assert {line[: len("home1  ")] for line in lines} == {"home1  "}
    assert all(line[len("home1  ")] != " " for line in lines)


def test_a_refused_plan_is_shown_in_words(site: Path) -> None:
    action = site / "collections/ansible_collections/hearth/fleet/plugins/action/rollout_plan.py"
    action.write_text(RETURN_PLAN.replace('"changed": False', '"failed": True, "shown": "THE TABLE", "msg": "min_available: 9 of 3 hosts"'))
    run = play(site, good())
    assert run.returncode != 0
    assert "THE TABLE\n\nmin_available: 9 of 3 hosts" in run.stdout
    assert "batches" not in run.stdout
    assert not (site / "reports").exists()


def test_the_batches_of_a_serial_play_are_one_play_to_its_reader(site: Path) -> None:
    play_of_batches = "- name: Roll out\n  hosts: home*\n  gather_facts: false\n  serial: [1, 2]\n  tasks:"
    task = BATCH.replace("\n", "\n    ").replace('"{{ batch }}"', "1").replace("  when: inventory_hostname in batch", "")
    (site / "site.yml").write_text(PLAYBOOK.partition("- name: Roll out")[0] + play_of_batches + task)
    run = play(site, good())
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("PLAY [Roll out]") == 1
    assert [line[:12] for line in run.stdout.splitlines() if line.startswith("batch ")] == ["batch 1 of 2", "batch 2 of 2"]


def test_the_report_is_beside_the_data(site: Path) -> None:
    play(site, good())
    found = report(site)
    assert found["outcome"] == "committed"
    assert found["playbook"] == "site"
    assert [row["host"] for row in found["rows"]] == list(HOSTS)
    assert "confirmed by hand" in [one["said"] for one in found["decisions"]]
    assert "<h1>nats-server 2.11.4 → 2.12.8</h1>" in (site / f"reports/rollout-{events.ID}.html").read_text()
    assert not list((site / "reports").glob(".*")), "temporary files"


def test_f46_a_failed_host_halts_and_is_reported(site: Path) -> None:
    back = events.rolled_back(events.START, "home2")
    told = {**good(), "home2": {"failed": True, "msg": "rolled back", "transaction": back["state"], "evidence": "reports/x/home2"}}
    run = play(site, told)
    assert run.returncode != 0
    found = report(site)
    assert found["outcome"] == "halted"
    assert found["counts"] == {"committed": 2, "rolled_back": 1}
    assert "home2: nats-server rolled back: back on 2.11.4: soak: error_rate" in run.stdout
    assert "  evidence: reports/x/home2" in run.stdout
    assert "fatal: [home2]" not in run.stdout, "the state is shown in words, not as data"
    assert f"report: reports/rollout-{events.ID}.html" in run.stdout


@pytest.mark.parametrize(
    ("task", "said"),
    [
        pytest.param("ansible.builtin.fail: {msg: relay.json was rejected}", "relay.json was rejected", id="one"),
        pytest.param(
            'ansible.builtin.fail: {msg: "{{ item }} was rejected"}\n      loop: [relay.json, node.toml]',
            "relay.json was rejected; node.toml was rejected",
            id="items-of-a-loop",
        ),
    ],
)
def test_f59_what_keeps_a_rollout_from_its_first_batch_is_its_last_word(site: Path, task: str, said: str) -> None:
    prepare = f"- name: Prepare\n  hosts: home1\n  gather_facts: false\n  tasks:\n    - name: Prepare every host\n      {task}\n"
    (site / "site.yml").write_text(PLAYBOOK.partition("- name: Roll out")[0] + prepare)
    run = play(site, good())
    assert run.returncode != 0
    assert f"home1, Prepare every host: {said}" in report(site)["said"]
    assert said in run.stdout.partition("PLAY RECAP")[2]
    assert "One or more items failed" not in run.stdout.partition("PLAY RECAP")[2]


def test_f32_a_host_that_does_not_answer_is_unknown(site: Path) -> None:
    run = play(site, {**good(), "home1": {"unreachable": True, "msg": "ssh: no route to host"}})
    assert run.returncode != 0
    found = report(site)
    assert found["outcome"] == "halted"
    assert found["rows"][0]["outcome"] == "unknown"
    assert found["said"][0] == "home1 (nats-server): unknown: ssh: no route to host"
    assert "ssh: no route to host" in run.stdout


def test_f39_a_host_on_its_way_is_in_the_report_before_it_arrives(site: Path) -> None:
    """The report is what is left of a controller that was killed."""
    (site / "collections/ansible_collections/hearth/fleet/plugins/action/transaction.py").write_text(
        RETURN_TRANSACTION.replace("        told =", "        import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n        told =")
    )
    assert play(site, good()).returncode < 0
    found = report(site)
    assert found["outcome"] == "unfinished"
    assert found["rows"][0]["state"] == "on its way (begun), ends by itself"
    assert found["next"] == [{"on": "", "command": f"ansible-playbook site.yml -i {site}/hosts -e @{site}/variables.json"}]


TORN = (
    {"transaction": {"outcome": {"a": 1}, "phases": [None, {"begin": "x"}], "facts": [], "started": True}, "decisions": [7]},
    {"transaction": None, "batch": "one"},
    {"transaction": {"outcome": "committed", "id": "../../../etc/x", "service": ["a"]}, "decisions": 3},
)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param({"batches": [None, {"hosts": 3}], "rows": "none", "skipped": 7, "arithmetic": []}, id="wrong-types"),
        pytest.param([1], id="not-a-plan"),
        pytest.param({}, id="empty"),
    ],
)
def test_torn_results_never_break_the_run(site: Path, plan: Any) -> None:
    run = play(site, dict(zip(HOSTS, TORN, strict=True)), plan=plan)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "failed=0" in run.stdout
    assert {path.suffix for path in (site / "reports").glob("*")} == {".html", ".json"}


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        pytest.param(("-e", "rollout_report=there/{id}.html"), f"there/{events.ID}", id="path"),
        pytest.param(("-e", "rollout_report=here"), "here", id="no-suffix"),
    ],
)
def test_the_report_goes_where_it_is_wanted(site: Path, arguments: tuple[str, ...], where: str) -> None:
    run = play(site, good(), *arguments)
    assert run.returncode == 0, run.stderr
    assert report(site, where)["outcome"] == "committed"
    assert not (site / "reports").exists()


@pytest.mark.parametrize("arguments", [pytest.param(("-e", "rollout_report="), id="off"), pytest.param(("--check",), id="check")])
def test_no_report_where_none_is_wanted(site: Path, arguments: tuple[str, ...]) -> None:
    assert play(site, good(), *arguments).returncode == 0
    assert not (site / "reports").exists()


def test_nothing_to_do_leaves_no_report(site: Path) -> None:
    (site / "site.yml").write_text(PLAYBOOK.partition("- name: Roll out")[0])
    run = play(site, {}, plan={"nothing": True, "rows": [], "batches": [], "said": ["nats-server is already at 2.12.8 on 3 hosts"]})
    assert run.returncode == 0
    assert not (site / "reports").exists()


def test_a_report_that_cannot_be_written_is_a_warning(site: Path) -> None:
    (site / "reports").write_text("in the way")
    run = play(site, good())
    assert run.returncode == 0
    assert run.stderr.count("the report of the rollout:") == 1


def test_everything_is_shown_with_v(site: Path) -> None:
    run = play(site, good(), "-v")
    for shown in ("Find all", "included:", "PLAY [Nobody is here]"):
        assert shown in run.stdout


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, bytes, str]]]]:
    """Yield the address of a server, and what it was told: method, path, body, authorization. ``/moved`` leads elsewhere."""
    told: list[tuple[str, str, bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((self.command, self.path, body, self.headers["Authorization"] or ""))
            self.send_response(302 if self.path.startswith("/moved") else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_GET = answer

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", told
        http.shutdown()
        thread.join()


def test_grafana_and_prometheus_are_told(site: Path, server: tuple[str, list[tuple[str, str, bytes, str]]]) -> None:
    url, told = server
    run = play(
        site, good(), HEARTH_GRAFANA_URL=url, HEARTH_GRAFANA_TOKEN=TOKEN, HEARTH_PUSHGATEWAY_URL=url, HEARTH_METRICS_FILE=str(site / "hearth.prom")
    )
    assert run.returncode == 0
    assert [(method, path) for method, path, _body, _authorization in told] == [
        ("PUT", "/metrics/job/hearth_rollout"),
        *[("POST", "/api/annotations")] * 4,
    ]
    assert told[1][3] == f"Bearer {TOKEN}"
    assert told[0][3] == ""
    assert 'hearth_rollout_hosts{service="nats-server",outcome="committed"} 3' in (site / "hearth.prom").read_text()


@pytest.mark.parametrize(
    ("path", "token", "said"),
    [
        pytest.param("{}/moved", TOKEN, "127.0.0.1 answered 302 Found", id="redirect-is-not-followed"),
        pytest.param("{}", f"{TOKEN}\nX: y", "127.0.0.1 could not be told (ValueError)", id="line-break-in-the-token"),
        pytest.param("http://user:glsa_never_to_be_shown@127.0.0.1:1/", TOKEN, "127.0.0.1 cannot be reached", id="refused"),
        pytest.param("file:///etc/passwd", TOKEN, "must begin with http", id="scheme"),
    ],
)
def test_a_secret_is_never_shown(server: tuple[str, list[tuple[str, str, bytes, str]]], path: str, token: str, said: str) -> None:
    problem = rollout_announce.post(path.format(server[0]), b"{}", {"Authorization": f"Bearer {token}"})
    assert said in problem
    assert TOKEN not in problem
    assert "/elsewhere" not in [one[1] for one in server[1]]
