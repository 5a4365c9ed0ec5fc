"""The role restore alone: what was in the backup is back under a daemon that is ready, and what was there is kept."""

from pathlib import Path

testinfra_hosts = ["ssh://anchor1"]

IDENTITY = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "backup_identity.txt"
NODE = "/var/lib/kontinuum-node"
RESTORES = "/var/lib/hearth/restore/kontinuum-node-server"


def test_the_daemon_is_ready_on_what_the_backup_holds(host):
    assert host.run("curl -fsS http://127.0.0.1:9100/readyz").rc == 0
    assert host.check_output("curl -fsS http://127.0.0.1:9100/kv/molecule") == "in the backup"


def test_the_database_is_the_services_own(host):
    database = host.file(f"{NODE}/data/node.db")
    assert (database.user, database.group) == ("kontinuum-node", "kontinuum-node")
    assert set(host.check_output(f"ls -A {NODE}/data").split()) <= {"node.db", "node.db-shm", "node.db-wal"}


def test_f22_it_was_stopped_and_started_once(host):
    assert host.check_output("systemctl show --property=NRestarts --value kontinuum-node-server") == "0"
    assert host.check_output("journalctl -u kontinuum-node-server -o cat | grep -c '^Started '") == "2"


def test_what_was_there_is_kept_aside(host):
    asides = host.check_output(f"find {RESTORES} -path '*/before-*' -name node.db").split()
    assert len(asides) == 1, "of the check and the restore, the check must keep nothing"
    assert host.check_output("sqlite3 %s \"SELECT value FROM kv WHERE key = 'molecule'\"", asides[0]) == "after the backup"
    assert host.file(RESTORES).mode == 0o700


def test_f15_neither_identities_nor_pieces_stay_on_the_host(host):
    identity = IDENTITY.read_text().splitlines()[-1]
    assert host.run("grep -rqsF %s /etc /var/lib /var/log /run /tmp /root", identity).rc == 1
    assert host.check_output(f"find {RESTORES} -path '*/received/*'") == ""
