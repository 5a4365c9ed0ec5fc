# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories belong to the distribution, so that no service may have them as its own. Pure.

A file may be put into one of them; its owner and mode are never touched. What is below one may be a service's.
"""

from __future__ import annotations

import re

_TOP = "bin boot etc home media mnt opt root run sbin srv tmp usr var"
_ETC = """
    X11 alternatives apparmor apparmor.d apt avahi binfmt.d ca-certificates chrony cloud cron.d cron.daily cron.hourly cron.monthly cron.weekly
    cron.yearly dbus-1 default dhcp dpkg environment.d fonts grub.d gss gssapi hearth init.d initramfs-tools iproute2 iptables kernel ld.so.conf.d
    ldap logcheck logrotate.d lvm modprobe.d modules-load.d netplan network opt pam.d perl polkit-1 ppp profile.d python3 resolvconf rsyslog.d
    security selinux skel ssh ssl sudo sudoers.d sysctl.d systemd sysusers.d terminfo tmpfiles.d udev ufw update-motd.d vim wireguard xdg
    ssl/certs ssl/private systemd/network systemd/system
"""
_USR = "bin games include lib lib32 lib64 libexec local sbin share src"
_LOCAL = "bin etc games include lib libexec man sbin share src"
_RUN = "lock systemd user"
_VAR = "backups cache lib local lock log mail opt run spool tmp"
_VAR_LIB = "apt dbus dpkg hearth misc pam polkit-1 private python sudo systemd ucf ufw"
_BELOW = {"": _TOP, "/etc": _ETC, "/usr": _USR, "/usr/local": _LOCAL, "/run": _RUN, "/var": _VAR, "/var/lib": _VAR_LIB}
_DIRECTORIES = frozenset(["/", *(f"{above}/{name}" for above, names in _BELOW.items() for name in names.split())])
_TREES = re.compile(r"/(dev|lib\d*|libx32|proc|sys|boot|usr/(bin|sbin|lib\w*|share/(ca-certificates|keyrings)))(/.*)?|/etc/rc[\dS]\.d")


def is_systems(path: str) -> bool:
    """Return whether a directory is one of the distribution's."""
    return path in _DIRECTORIES or bool(_TREES.fullmatch(path))
