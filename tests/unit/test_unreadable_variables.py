# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the join tells people about a variable that Ansible cannot read, from what Ansible itself says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.template import Templar

from ansible_collections.hearth.fleet.plugins.action.service_spec import remedy_for

SEALED = VaultLib([("default", VaultSecret(b"the right password"))]).encrypt("a secret")


def without_password() -> None:
    VaultLib([]).decrypt(SEALED)


def with_another_password() -> None:
    VaultLib([("default", VaultSecret(b"another password"))]).decrypt(SEALED)


def damaged() -> None:
    VaultLib([("default", VaultSecret(b"the right password"))]).decrypt(SEALED[:-20] + b"00000000000000000000")


def undefined() -> None:
    template_("{{ no_such_variable }}")


def missing_key() -> None:
    template_("{{ {'1.0': 'digest'}['1.1'] }}")


def template_(template: str) -> None:
    try:
        from ansible.template import trust_as_template
    except ImportError:
        pass
    else:
        template = trust_as_template(template)
    Templar(loader=DataLoader(), variables={}).template(template)


def something_else() -> None:
    raise AnsibleError("the lookup plugin 'pipe' failed")


VAULT = "give --vault-id or --ask-vault-pass, or encrypt it again"
KEY = "write that key into the mapping that the template looks it up in, or correct its name"
DEFINE = "define it, for example in group_vars/all.yml (secrets: in a vault), or correct its name"


@pytest.mark.parametrize(
    ("read", "remedy"),
    [
        pytest.param(without_password, VAULT, id="vault-without-a-password"),
        pytest.param(with_another_password, VAULT, id="vault-with-another-password"),
        pytest.param(damaged, VAULT, id="damaged-vault"),
        pytest.param(undefined, DEFINE, id="undefined"),
        pytest.param(missing_key, KEY, id="missing-key"),
        pytest.param(something_else, "", id="nobody-knows"),
    ],
)
def test_f58_an_unreadable_variable_has_its_remedy(read: Callable[[], None], remedy: str) -> None:
    with pytest.raises(AnsibleError) as raised:
        read()
    assert remedy_for(str(raised.value).strip().splitlines()[0]) == remedy
