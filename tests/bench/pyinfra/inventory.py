"""The lab's hosts for pyinfra, out of the lab's one definition."""

import json
import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
LAB = json.loads((CHECKOUT / "tests" / "lab" / "lab.json").read_text())
PREFIX = os.environ.get("LAB_IPV4_PREFIX") or LAB["network"]["ipv4_prefix"]

lab = [
    (
        name,
        {
            "ssh_hostname": f"{PREFIX}.{host['address']}",
            "ssh_user": host["login"],
            "ssh_key": str(CHECKOUT / ".cache" / "lab" / "id_ed25519"),
            "ssh_known_hosts_file": str(CHECKOUT / ".cache" / "lab" / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "lab_ipv4_prefix": PREFIX,
            "_sudo": host["login"] != "root",
        },
    )
    for name, host in LAB["hosts"].items()
]
