# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: peers
short_description: The hosts that run a service, written as it wants its peers
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Returns one item for every host on which C(fleet_placement) puts a service, sorted by host name.
  - Meant for config that lists the members of a cluster, so that it follows the inventory.
options:
  _terms:
    description: The service, as named in C(fleet_services).
    required: true
    type: list
    elements: str
  format:
    description:
      - How one peer is written, a text or a mapping of texts; C({name}) is the inventory host,
        C({address}) its first address (IPv6 in brackets).
    type: raw
    default: "{address}"
  include_self:
    description: Whether the host that asks is among its own peers.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the routes of a cluster
  ansible.builtin.debug:
    msg: "{{ query('hearth.fleet.peers', 'nats-server', format='nats://{address}:6222') }}"
"""

RETURN = r"""
_raw:
  description: One item for each peer, as O(format) says.
  type: list
  elements: raw
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.hearth.fleet.plugins.module_utils.config_formats import plain
from ansible_collections.hearth.fleet.plugins.module_utils.placement import hosts_of
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[Any]:
        """Return the peers of every service named."""
        self.set_options(var_options=variables, direct=kwargs)
        placement = plain(self._templar.template(variables.get("fleet_placement") or {}))
        groups = variables["groups"]
        peers = []
        for service in terms:
            hosts = hosts_of(service, placement, groups)
            if not hosts:
                placed = {name for names in placement.values() for name in ([names] if isinstance(names, str) else names)}
                raise AnsibleError(f"no host runs {service!r}, so it has no peers; {suggest(service, placed)}")
            peers += [
                self._written(host, variables["hostvars"][host])
                for host in hosts
                if self.get_option("include_self") or host != variables["inventory_hostname"]
            ]
        return peers

    def _written(self, host: str, hostvars: Any) -> Any:
        known = hostvars.get("fleet_addresses") or [hostvars.get("ansible_host", host)]
        address = str(known if isinstance(known, str) else known[0]).partition("/")[0]
        return _filled(plain(self.get_option("format")), host, f"[{address}]" if ":" in address else address)


def _filled(form: Any, name: str, address: str) -> Any:
    """Return ``form`` with ``{name}`` and ``{address}`` filled in, in a text or in every text of a mapping."""
    if isinstance(form, dict):
        return {key: _filled(value, name, address) for key, value in form.items()}
    return form.replace("{name}", name).replace("{address}", address) if isinstance(form, str) else form
