"""What the look at a host says where the host does not answer."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.action.observe import away_warning


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
