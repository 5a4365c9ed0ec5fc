# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role `rollout` hands to the plan, from what its hosts have registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18 and earlier trust every text
    trust_as_template = str

TASKS = Path(__file__).parents[2] / "roles/rollout/tasks"
LOOK = {"plan": {"rollout": []}}


@pytest.mark.parametrize(
    ("variables", "looked"),
    [
        pytest.param({"__rollout_look": LOOK}, LOOK, id="looked-at"),
        pytest.param({}, {}, id="failed-earlier-in-the-run"),
    ],
)
def test_the_plan_gets_a_look_of_each_host_or_none(variables: dict[str, Any], looked: dict[str, Any]) -> None:
    (task,) = (task for task in yaml.safe_load((TASKS / "plan.yml").read_text()) if "hearth.fleet.rollout_plan" in task)
    hosts = {"relay1": variables, "relay2": {"__rollout_look": LOOK}}
    templar = Templar(loader=DataLoader(), variables={"hostvars": hosts, "ansible_play_hosts_all": list(hosts)})
    assert templar.template(trust_as_template(task["hearth.fleet.rollout_plan"]["looks"])) == {"relay1": looked, "relay2": LOOK}
