# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories belong to the distribution, so that no service may have them as its own. Pure.

A file may be put into one of them; its owner and mode are never touched. What is below one may be a service's.
"""

from __future__ import annotations

import re

_TOP = ("bin", "boot", "etc", "home", "media", "mnt", "opt", "root", "run", "sbin", "srv", "tmp", "usr", "var")
_ETC = (
    *("X11", "alternatives", "apparmor", "apt", "avahi", "ca-certificates", "chrony", "cloud", "dbus-1", "default", "dhcp", "dpkg", "fonts"),
    *("gss", "gssapi", "initramfs-tools", "iptables", "iproute2", "kernel", "ldap", "logcheck", "lvm", "netplan", "network"),
    *("opt", "perl", "polkit-1", "ppp", "python3", "resolvconf", "security", "selinux", "skel", "ssh", "ssl", "sudo", "systemd"),
    *("terminfo", "udev", "ufw", "vim", "wireguard", "xdg"),
    *("apparmor.d", "binfmt.d", "cron.d", "cron.daily", "cron.hourly", "cron.monthly", "cron.weekly", "cron.yearly", "environment.d", "grub.d"),
    *(
        "init.d",
        "ld.so.conf.d",
        "logrotate.d",
        "modprobe.d",
        "modules-load.d",
        "pam.d",
        "profile.d",
        "rsyslog.d",
        "sudoers.d",
        "sysctl.d",
        "sysusers.d",
        "tmpfiles.d",
        "update-motd.d",
    ),
)
_USR = ("bin", "games", "include", "lib", "lib32", "lib64", "libexec", "local", "sbin", "share", "src")
_LOCAL = ("bin", "etc", "games", "include", "lib", "libexec", "man", "sbin", "share", "src")
_VAR = ("backups", "cache", "lib", "local", "lock", "log", "mail", "opt", "run", "spool", "tmp")
_VAR_LIB = ("apt", "dbus", "dpkg", "hearth", "misc", "pam", "polkit-1", "private", "python", "sudo", "systemd", "ucf", "ufw")
_OTHERS = (
    "/etc/hearth",
    "/etc/ssl/certs",
    "/etc/ssl/private",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/run/lock",
    "/run/systemd",
    "/run/user",
)
_DIRECTORIES = frozenset(
    ["/", *_OTHERS]
    + [f"{above}/{name}" for above, names in (("", _TOP), ("/etc", _ETC), ("/usr", _USR), ("/usr/local", _LOCAL)) for name in names]
    + [f"{above}/{name}" for above, names in (("/var", _VAR), ("/var/lib", _VAR_LIB)) for name in names]
)
_TREES = re.compile(r"/(dev|lib\d*|libx32|proc|sys|boot|usr/(bin|sbin|lib\w*|share/(ca-certificates|keyrings)))(/.*)?|/etc/rc[\dS]\.d")


def is_systems(path: str) -> bool:
    """Return whether a directory is one of the distribution's."""
    return path in _DIRECTORIES or bool(_TREES.fullmatch(path))
