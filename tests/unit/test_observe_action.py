"""What the look at a host says where the host does not answer."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.action.observe import away_warning, unseen


@pytest.mark.parametrize(
    ("offline", "tier", "warning"),
    [
        pytest.param(
            "skip",
            "tier2",
            "home1 cannot be reached: it is left for the next run, as tier2 may be off (fleet_tiers.tier2.offline: skip); ssh: connect: timed out",
            id="may-be-off",
        ),
        pytest.param("fail", "tier1", "home1 cannot be reached; ssh: connect: timed out", id="should-be-on"),
        pytest.param("fail", "", "home1 cannot be reached; ssh: connect: timed out", id="no-tier"),
    ],
)
def test_f47_a_host_that_does_not_answer_is_a_warning(offline: str, tier: str, warning: str) -> None:
    said = "Data could not be sent to remote host. Make sure this host can be reached over ssh: ssh: connect:\ntimed out"
    assert away_warning({"name": "home1", "tier": tier, "offline": offline}, said) == warning


def said_by_ansible(words: str) -> str:
    return f"Failed to connect to the host via ssh: {words}"


HOME = {"name": "home1", "tier": "tier2", "offline": "skip"}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("pilot@192.0.2.31: Permission denied (publickey).", id="key"),
        pytest.param("Received disconnect from 192.0.2.31 port 22:2: Too many authentication failures", id="too-many-keys"),
        pytest.param("No ED25519 host key is known for 192.0.2.31.\r\nHost key verification failed.", id="unknown-host-key"),
        pytest.param("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.", id="other-host-key"),
        pytest.param("Unable to negotiate with 192.0.2.31 port 22: no matching host key type found.", id="old-host"),
        pytest.param("command-line: line 0: Bad configuration option: nope", id="our-own-options"),
    ],
)
def test_f47_a_host_that_lets_nobody_in_is_not_off(words: str) -> None:
    found = unseen(HOME, said_by_ansible(words))
    assert found["failed"]
    assert "away" not in found
    assert found["msg"].startswith("home1 lets nobody in; ")
    assert " ".join(words.split())[-20:] in found["msg"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("ssh: connect to host 192.0.2.31 port 22: No route to host", id="no-route"),
        pytest.param("ssh: connect to host 192.0.2.31 port 22: Connection timed out", id="timeout"),
        pytest.param("ssh: connect to host 192.0.2.31 port 22: Connection refused", id="booting"),
        pytest.param("ssh: Could not resolve hostname pi.local: Name or service not known", id="no-name"),
        pytest.param("kex_exchange_identification: Connection closed by remote host", id="cut"),
    ],
)
def test_f47_a_host_that_is_out_of_reach_may_be_off(words: str) -> None:
    found = unseen(HOME, said_by_ansible(words))
    assert found["away"]
    assert "failed" not in found
