# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a backup: what is taken, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_formats

AGE = "age16ys88cpjtn5uglw8hfufc490wpl6enty4u0h6nu8xppqgzu6l4wqu0n85d"
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIApzDkaBIh0zgu1gcM/5X5Id/EzL3TtcD97+Bz5uZ/OV"
RSA = (
    "ssh-rsa "
    "AAAAB3NzaC1yc2EAAAADAQABAAABgQC6BXAk4NQ9fNHbDb63uvVDS7bZgHytmhHL4rYD4x5MKMXkXfW+h84pBbP4WqVOI3tRvIqQH1NdQneJBGyIiLy+W2Bv"
    "sfKEAkJbnjrldGAaPf+GHHeKx3u5quAyYFhQtQe+37DHenL761JjtlSWj2xeZH9D4xFNhXgjr2c8reqj5f7pCdlNyfSMkkgsv9maodlwY8DnUOVeeeTU4ySv"
    "ZwiivWm0l2JPRXve6I+jGtOz6jz9rCX6vXhiMnzuzxjC+1yPkX1AnR+WfeP9pVA2Fff3+kdLmdQwU0ORlRiZhkG+SX8vYtTr8D8zwe9WmTA0dbIrroBdoL4d"
    "5qYLjO9UJlKP08tJ5MjJVZnKmDrEr0SNt8VKbaOFHjCi3TkxxyK0N2M88EwAORsjOuqwCtKOHkuyaEo970Uvgd4vF5Y0Fe/tQMozTS86wtpNtXsINFOyOMEL"
    "bC9bhFH+YXX/ZIfI/LeS4+KazRfUQwnwTPZq1Ks9/ZjTLucDCxP3jkNhEey6kJE="
)
DAY = 86400


def said(function: Any, value: Any) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        function(value)
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param(AGE, AGE, id="age"),
        pytest.param(f" {AGE}\n", AGE, id="spaces-around"),
        pytest.param(ED25519, ED25519, id="ed25519"),
        pytest.param(f"{ED25519} maria@home", f"{ED25519} maria@home", id="comment"),
        pytest.param(RSA, RSA, id="rsa"),
    ],
)
def test_recipients(given: str, wanted: str) -> None:
    assert backup_formats.recipient(given) == wanted


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param("", "'' (a text) is not an age recipient; write age1…", id="empty"),
        pytest.param(None, "None (nothing) is not an age recipient", id="nothing"),
        pytest.param("age1short", "'age1short' (a text) is not an age recipient", id="short"),
        pytest.param(AGE[:-1], "is not an age recipient", id="a-letter-less"),
        pytest.param(AGE.upper(), "is not an age recipient", id="upper-case"),
        pytest.param(
            AGE[:-1] + ("q" if AGE[-1] != "q" else "p"), "has a wrong checksum, so a letter is not as it was; copy it again", id="last-letter"
        ),
        pytest.param(AGE[:10] + AGE[11] + AGE[10] + AGE[12:], "has a wrong checksum", id="two-letters-swapped"),
        pytest.param(ED25519[:-8], "is not a whole ssh-ed25519 public key; copy the line of the .pub file", id="ssh-cut"),
        pytest.param(ED25519.replace("ssh-ed25519", "ssh-rsa"), "is not a whole ssh-rsa public key", id="ssh-of-another-kind"),
        pytest.param("ssh-ed25519 !", "is not a whole ssh-ed25519 public key", id="ssh-no-base64"),
        pytest.param("maria@example.org", "is not an age recipient", id="address"),
    ],
)
def test_f14_malformed_recipients(given: Any, problem: str) -> None:
    assert problem in said(backup_formats.recipient, given)


@pytest.mark.parametrize("private", ["AGE-SECRET-KEY-1QQQQ", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"], ids=["age", "ssh"])
def test_a_private_identity_is_refused_and_not_repeated(private: str) -> None:
    problem = said(backup_formats.recipient, private)
    assert "private identity" in problem
    assert private not in problem


@pytest.mark.parametrize(
    ("given", "wanted"), [("30d", 30 * DAY), ("2w", 14 * DAY), ("48h", 2 * DAY), ("forever", 0)], ids=["days", "weeks", "hours", "forever"]
)
def test_keep(given: Any, wanted: int) -> None:
    assert backup_formats.keep(given) == wanted


@pytest.mark.parametrize("given", ["36h", "0d", 0, "soon", None, "-1d"], ids=["half-a-day", "zero", "number-zero", "word", "nothing", "negative"])
def test_what_a_store_cannot_keep(given: Any) -> None:
    assert "write whole days like 30d" in said(backup_formats.keep, given)


@pytest.mark.parametrize(
    ("given", "age_hours", "delay_minutes"),
    [
        pytest.param("hourly", 3, 10, id="hourly"),
        pytest.param("daily", 48, 60, id="daily"),
        pytest.param("weekly", 216, 180, id="weekly"),
        pytest.param("monthly", 792, 180, id="monthly"),
        pytest.param("changes", 0, 10, id="changes"),
        pytest.param("*-*-* 02:00", 48, 10, id="calendar"),
        pytest.param("Mon,Thu *-*-1..7 00/6:00:00 Europe/Berlin", 48, 10, id="calendar-with-everything"),
        pytest.param("quarterly", 48, 10, id="word-of-systemd"),
    ],
)
def test_schedules(given: str, age_hours: int, delay_minutes: int) -> None:
    assert backup_formats.schedule(given) == given
    assert (backup_formats.max_age(given), backup_formats.delay_minutes(given)) == (age_hours * 3600, delay_minutes)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param("hourl", "'hourl' is not a schedule; did you mean 'hourly'?", id="typo"),
        pytest.param("", "'' (a text) is not a schedule; write hourly", id="empty"),
        pytest.param(5, "5 (a number) is not a schedule", id="number"),
        pytest.param("*-*-* 02:00\nExecStart=/bin/sh", "is not a schedule", id="another-line"),
        pytest.param("02:00; reboot", "is not a schedule", id="characters"),
        pytest.param("whenever", "is not a schedule", id="word"),
    ],
)
def test_what_is_no_schedule(given: Any, problem: str) -> None:
    assert problem in said(backup_formats.schedule, given)


def test_a_schedule_never_has_a_second_line() -> None:
    assert backup_formats.schedule("*-*-*  02:00\n") == "*-*-* 02:00"


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        pytest.param("SELECT count(*) FROM kv;", True, id="select"),
        pytest.param("select 1", True, id="lower-case"),
        pytest.param("SELECT 1; DROP TABLE kv", False, id="two"),
        pytest.param("DELETE FROM kv", False, id="another-statement"),
        pytest.param("", False, id="empty"),
        pytest.param(1, False, id="number"),
    ],
)
def test_sentinels(given: Any, fits: bool) -> None:
    if fits:
        assert backup_formats.sentinel(given) == given.rstrip(";")
    else:
        assert "is not one SELECT; write it like" in said(backup_formats.sentinel, given)
