# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills on a real host: backups come back as running daemons without a network, and what fails or is overdue is loud.

`pytest tests/integration/test_drill.py`, after `make lab`. The runner keeps the lab's store as well, and backs its own admin up to it;
a node's backups are made there by hand, as those of a host that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import converged
import lab_hosts
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import object_store

HOST = "ops1"
ADMIN = ("ops1", "kontinuum-node-admin", "data")
NODE = ("home1", "kontinuum-node-server", "data")
KEY = ("home1", "kontinuum-node-server", "identity")
STORE = "rclone --config /root/drill-test.conf --retries 1"
BUCKET = "store:backups"
REPORT = "/var/lib/hearth/drill/report.json"
METRICS = "/var/lib/prometheus/node-exporter"

NODE_BACKUPS = """
import json, os, pathlib, sqlite3, subprocess
base = json.load(open("/etc/hearth/backup/kontinuum-node-admin.data.json"))
home = pathlib.Path("/var/lib/kontinuum-node")
for name in ("data", "keys"):
    (home / name).mkdir(parents=True, exist_ok=True)
(home / "keys/node.key").write_text("of production\\n")
for order in map(json.load, map(open, ORDERS)):
    job = f"{order['service']}.{order['set']}"
    for database in order["databases"]:
        connection = sqlite3.connect(database["path"])
        connection.executescript("PRAGMA application_id = 0x4B4E4F44; PRAGMA user_version = 1; CREATE TABLE IF NOT EXISTS kv "
            "(key TEXT PRIMARY KEY, value BLOB NOT NULL, updated REAL NOT NULL); INSERT INTO kv SELECT hex(randomblob(9)), 'x', 0;")
        connection.close()
    mine = {key: order[key] for key in ("host", "service", "set", "class", "keep_days", "databases", "files", "max_age")}
    config, state = pathlib.Path(f"/etc/hearth/backup/{job}.json"), pathlib.Path(f"/var/lib/hearth/backup/{job}")
    config.write_text(json.dumps({**base, **mine, "user": "root", "command": [], "refresh_days": 8 if order["keep_days"] else 0}))
    state.mkdir(mode=0o700, exist_ok=True)
    try:
        subprocess.run(["hearthctl", "backup", "run", job], check=True)
    finally:
        config.unlink()
"""
ORDERS = [f"/etc/hearth/drill/orders/{'.'.join(job)}.json" for job in (NODE, KEY)]
UNDO = f"""
rm -rf /var/lib/kontinuum-node /var/lib/hearth/backup/kontinuum-node-server.* {METRICS}/hearth_drill.prom
{STORE} delete {BUCKET}/v1 --include '/*/home1/**'
rm /root/drill-test.conf
"""
# The keys of the lab's store (inventories/lab) that may change what is there.
ADMINISTRATOR = object_store.conf_text(
    {"endpoint": f"http://{lab_hosts.addresses(HOST)[0]}:9001"}, "LABADMIN000000000001", "only-for-the-lab-this-one-does-all-000001"
)


@pytest.fixture(scope="module", autouse=True)
def runner() -> Iterator[None]:
    """The runner, with backups of its own and of a node; afterwards without those."""
    converged.site("--limit", HOST)
    lab_hosts.shell(HOST, "umask 077; cat > /root/drill-test.conf", ADMINISTRATOR.encode())
    lab_hosts.shell(HOST, f"mkdir -p {METRICS}; hearthctl backup now")
    back_the_node_up()
    yield
    lab_hosts.shell(HOST, UNDO)
    converged.site("--limit", HOST)


def back_the_node_up() -> None:
    script = NODE_BACKUPS.replace("ORDERS", json.dumps(ORDERS))
    lab_hosts.shell(HOST, f"python3 - <<'END'\n{script}\nEND")


def drill() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Run a drill as the timer does; return the rows of its report."""
    lab_hosts.shell(HOST, "systemctl start hearth-drill.service || true")
    report = json.loads(lab_hosts.shell(HOST, f"cat {REPORT}"))
    return {(row["host"], row["service"], row["set"]): row for row in report["rows"]}


def newest(job: tuple[str, str, str]) -> str:
    """Return where the newest backup of a set lies in the store."""
    listed = lab_hosts.shell(HOST, f"{STORE} lsf --recursive --files-only {BUCKET}/v1 --include '/{job[2]}-*/{job[0]}/{job[1]}/*/manifest.json'")
    return f"{BUCKET}/v1/" + max(listed.split(), key=lambda path: path.split("/")[3]).rpartition("/")[0]


def problems() -> list[str]:
    """Return what `hearthctl drill status` finds wrong with the sets of these tests."""
    found = json.loads(lab_hosts.shell(HOST, "hearthctl drill status --json || true"))["problems"]
    return [one for host in ("ops1", "home1") for one in found.get(host, [])]


def left_over() -> str:
    return lab_hosts.shell(HOST, "ls -d /var/lib/hearth/drill/work 2>/dev/null; systemctl is-active hearth-drill-sandbox.service || true").strip()


def test_the_newest_backups_come_back_as_running_daemons() -> None:
    back_the_node_up()
    rows = drill()
    for job in (ADMIN, NODE):
        assert rows[job]["problems"] == []
        assert rows[job]["started"]
        assert 0 < rows[job]["rto"] < 60
        assert "ready after" in " ".join(rows[job]["said"])
    assert "SELECT count(*) FROM kv: " in rows[NODE]["said"][0]
    assert len(rows[NODE]["older"]) == 1
    assert (rows[KEY]["ok"], rows[KEY]["started"]) == (True, False)
    assert problems() == []
    assert left_over() == "inactive"


def test_the_drill_is_in_the_metrics() -> None:
    text = lab_hosts.shell(HOST, f"cat {METRICS}/hearth_drill.prom")
    assert 'hearth_drill_ok{host="home1",service="kontinuum-node-server",set="data"} 1\n' in text
    assert 'hearth_drill_rto_seconds{host="ops1",service="kontinuum-node-admin",set="data"} ' in text


def test_f28_the_sandbox_has_no_network_and_no_second_node_comes_up() -> None:
    watch = """
    systemctl start --no-block hearth-drill.service
    for _ in $(seq 400); do
        pid=$(systemctl show --property=MainPID --value hearth-drill-sandbox.service)
        if systemctl -q is-active hearth-drill-sandbox.service && [ -e /proc/$pid/root/var/lib/kontinuum-node/keys/node.key ]; then
            cut -d: -f1 /proc/$pid/net/dev | tail -n +3 | tr -d ' ' | sed 's/^/interface /'
            [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/1/ns/net)" ] && echo the network of the host
            grep -l production /proc/$pid/root/var/lib/kontinuum-node/keys/node.key
            for path in /etc/hearth /var/lib/hearth /etc/shadow /root/.ssh /home /run/dbus; do [ -e /proc/$pid/root$path ] && echo "sees $path"; done
            nsenter --target $pid --net curl -s -m 2 -o /dev/null http://STORE:9001/ready && echo reaches the store
            nsenter --target $pid --net curl -s -m 5 --retry 20 --retry-delay 0 --retry-connrefused -o /dev/null -w 'ready %{http_code}\\n' http://127.0.0.1:9100/readyz
            curl -s -m 2 -o /dev/null http://127.0.0.1:9100/readyz && echo "a node answers on the host"
            ps -o user= -p $pid
            break
        fi
        python3 -c 'import time; time.sleep(0.02)'
    done
    while systemctl is-active hearth-drill.service | grep -q activating; do python3 -c 'import time; time.sleep(0.1)'; done
    """
    seen = lab_hosts.shell(HOST, f"{watch.replace('STORE', lab_hosts.addresses(HOST)[0])}\ntrue").split("\n")
    lines = [line.strip() for line in seen if line.strip()]
    assert [line for line in lines if line not in ("interface lo", "hearth-drill")] == ["ready 200"], lines
    assert "interface lo" in lines
    assert "hearth-drill" in lines


def test_f28_without_a_network_of_its_own_nothing_starts() -> None:
    guarded = lab_hosts.shell(HOST, "runuser -u nobody -- hearthctl drill guard 2>&1 || echo refused")
    assert "there is a network in the sandbox" in guarded
    assert "refused" in guarded
    seen = lab_hosts.shell(HOST, "unshare --net hearthctl drill guard /etc/hearth 2>&1 || echo refused")
    assert "the sandbox can see /etc/hearth" in seen


@pytest.mark.parametrize(
    ("part", "damage", "said"),
    [
        pytest.param("database-0.zst.age", "truncate -s -1 {}", "bytes, its manifest says", id="cut"),
        pytest.param(
            "database-0.zst.age",
            "printf x | dd of={} bs=1 seek=300 conv=notrunc status=none",
            "is not the object that was uploaded",
            id="turned",
        ),
        pytest.param("database-0.zst.age", "rm {}", "its database-0.zst.age is missing", id="part-gone"),
        pytest.param("manifest.json", "printf '{{}}' > {}", "the manifest is of version None", id="manifest"),
    ],
)
def test_f27_a_damaged_newest_backup_fails_the_drill_and_its_unit(part: str, damage: str, said: str) -> None:
    back_the_node_up()
    place = f"{newest(NODE)}/{part}"
    script = f"{STORE} copyto {place} /root/damaged; {damage.format('/root/damaged')}"
    lab_hosts.shell(HOST, f"{script}; {STORE} deletefile {place}; if [ -e /root/damaged ]; then {STORE} copyto /root/damaged {place}; fi")
    try:
        row = drill()[NODE]
        assert not row["ok"]
        assert said in row["problems"][0]
        assert row["last_success"] is not None, "the time of the last success is kept"
        assert lab_hosts.shell(HOST, "systemctl show --property=Result --value hearth-drill.service").strip() == "exit-code"
        assert any("kontinuum-node-server.data of home1: the drill failed" in one for one in problems())
        assert "hearth_drill_last_run_ok 0\n" in lab_hosts.shell(HOST, f"cat {METRICS}/hearth_drill.prom")
        assert left_over() == "inactive"
    finally:
        lab_hosts.shell(HOST, f"{STORE} delete {place.rpartition('/')[0]}; rm -f /root/damaged")


def test_f27_a_drill_that_is_overdue_is_said() -> None:
    drill()
    assert problems() == []
    aged = f"""
import json
path = "{REPORT}"
report = json.load(open(path))
for row in report["rows"]:
    row["last_success"] = row["last_success"] and row["last_success"] - 9 * 86400
json.dump(report, open(path, "w"))
"""
    lab_hosts.shell(HOST, f"python3 - <<'END'\n{aged}\nEND")
    assert {one.partition(":")[0] for one in problems()} == {f"{job[1]}.{job[2]} of {job[0]}" for job in (NODE, ADMIN, KEY)}
    assert all("the drill is overdue: the last that succeeded was 9d" in one for one in problems())
    status = lab_hosts.ansible("ansible-playbook", "playbooks/backup_status.yml", "--limit", HOST, check=False)
    assert status.returncode != 0
    assert "the drill is overdue" in status.stdout


def test_a_killed_drill_leaves_nothing_in_the_clear() -> None:
    lab_hosts.shell(
        HOST,
        "systemctl start --no-block hearth-drill.service; "
        "for _ in $(seq 200); do systemctl -q is-active hearth-drill-sandbox.service && break; python3 -c 'import time; time.sleep(0.05)'; done; "
        "systemctl kill --signal=KILL --kill-who=main hearth-drill.service; "
        "while systemctl is-active hearth-drill.service | grep -q activating; do python3 -c 'import time; time.sleep(0.1)'; done; true",
    )
    assert left_over() == "inactive"
    assert drill()[ADMIN]["ok"]


def test_the_playbook_shows_the_table_and_fails_with_a_drill() -> None:
    done = lab_hosts.ansible("ansible-playbook", "playbooks/restore_drill.yml", check=False)
    assert "WHAT CAME OF IT" in done.stdout
    assert "kontinuum-node-admin" in done.stdout
    assert (done.returncode != 0) == ("FAILED" in done.stdout)


def test_f27_a_stopped_timer_is_seen_and_started_again() -> None:
    lab_hosts.shell(HOST, "systemctl stop hearth-drill.timer")
    done = converged.site("--limit", HOST)
    assert "drill not active (inactive): hearth-drill.timer" in " ".join(done.stdout.split())
    assert lab_hosts.shell(HOST, "systemctl is-active hearth-drill.timer").strip() == "active"
    assert converged.changes(converged.site("--limit", HOST))[HOST] == 0


def test_a_schedule_that_systemd_does_not_take_changes_nothing() -> None:
    before = lab_hosts.shell(HOST, "find /etc/hearth/drill /etc/systemd/system/hearth-drill.* -printf '%p %T@\\n' | sort")
    done = converged.site("--limit", HOST, "-e", json.dumps({"drill_schedule": "*-*-* 99:00"}), check=False)
    assert done.returncode != 0
    assert "drill_schedule: systemd does not take *-*-* 99:00" in done.stdout + done.stderr
    assert lab_hosts.shell(HOST, "find /etc/hearth/drill /etc/systemd/system/hearth-drill.* -printf '%p %T@\\n' | sort") == before


def test_a_host_that_is_no_runner_any_more_loses_the_identity() -> None:
    converged.site("--limit", HOST, "-e", json.dumps({"drill_runner": False}))
    left = lab_hosts.shell(HOST, "find /etc/hearth/drill /etc/systemd/system -type f -path '*drill*'; systemctl is-active hearth-drill.timer || true")
    assert left.split() == ["inactive"]
    converged.site("--limit", HOST)
    assert lab_hosts.shell(HOST, "systemctl is-active hearth-drill.timer").strip() == "active"
