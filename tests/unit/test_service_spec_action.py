"""What the join warns of; its mistakes are in test_bad_input.py."""

from __future__ import annotations

from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.action.service_spec import warnings_of

STORED = {"relay1": {"backup": {"sets": [{"service": "icnd"}], "jobs": [{"service": "icnd"}]}}}
UNSTORED = {"relay1": {"backup": {"sets": [{"service": "icnd"}], "jobs": []}}}
NO_STORE = "there is no store (backup_store), so that nothing is backed up: icnd"
NO_PLACEMENT = "there is no fleet_placement, so that no host has a service; is -i the whole inventory, with its group_vars?"


@pytest.mark.parametrize(
    ("placement", "specs", "whole", "warnings"),
    [
        pytest.param({"icn": ["icnd"]}, STORED, True, [], id="all-is-well"),
        pytest.param({"icn": ["icnd"]}, UNSTORED, True, [NO_STORE], id="no-store"),
        pytest.param({}, STORED, True, [NO_PLACEMENT], id="no-placement"),
        pytest.param({}, STORED, False, [], id="one-role-alone"),
        pytest.param({"icn": []}, STORED, True, [], id="placement-that-is-empty-on-purpose"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(placement: dict[str, Any], specs: dict[str, Any], whole: bool, warnings: list[str]) -> None:
    assert warnings_of(fleets.fleet(placement=placement), specs, whole=whole) == warnings
