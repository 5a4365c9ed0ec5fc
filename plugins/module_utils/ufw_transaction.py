# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of a host's firewall as a transaction: staged, tried in the kernel, confirmed over a new connection, or undone.

    stage    UFW's own library writes the new files, below /run/hearth/firewall/pending/tree
    arm      a timer of the host will run the revert script, whatever becomes of the controller
    load     the kernel gets the new rules; the files in /etc stay the old ones, so a reboot brings the old rules back
    commit   the new files move to /etc, the timer stops

Everything lives in /run: a reboot ends the transaction together with its timer. Whoever renames ``pending`` owns the
outcome, the revert script (to ``reverting``) or the commit (to ``committing``), so there is never a half of each.
"""

from __future__ import annotations

import contextlib
import fcntl
import gettext
import ipaddress
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_access import Connection
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_rules import (
    DIRECTIONS,
    POLICIES,
    Rule,
    encode_comment,
    jump_problems,
    look_at_kernel,
    parse_settings,
    parse_table,
    read,
    run,
    target_rules,
)

STATE = Path("/run/hearth/firewall")
PENDING = STATE / "pending"
REVERTING = STATE / "reverting"
COMMITTING = STATE / "committing"
REVERT_SCRIPT = STATE / "revert"
REVERT_UNIT = "hearth-firewall-revert"
UFW_INIT = "/lib/ufw/ufw-init"

# Everything that UFW's library may write, in the order in which a stricter configuration is safe to move in:
# rules first, then the policy, then the switch. See `_install_order`.
_FILES = ("etc/ufw/user.rules", "etc/ufw/user6.rules", "etc/ufw/after.rules", "etc/ufw/after6.rules", "etc/default/ufw", "etc/ufw/ufw.conf")

# POSIX sh, because it must work when little else does. Only UFW's chains and the policies are put back, each family in one
# atomic step, and chains that came with the change go (as long as they are there, `ufw status` calls itself active);
# what others (Docker, fail2ban) have in the table meanwhile is not touched. A commit that was interrupted is
# finished instead: it had been confirmed. The token keeps a run that comes late from undoing the change of the next one.
_REVERT = """\
#!/bin/sh
# Puts back the firewall rules that held before a change that nobody confirmed: the one with the token $1, or any.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /run/hearth/firewall || exit 1
exec 9>lock
flock 9

if [ -d committing ]; then
  while read -r new old; do
    if [ -e "$new" ]; then mv -f "$new" "$old"; fi
  done < committing/moves
  rm -rf committing
  exit 0
fi

if [ ! -d reverting ]; then
  if [ -n "${1-}" ] && ! grep -qsF "\\"$1\\"" pending/state.json; then exit 0; fi
  mv pending reverting || exit 0
fi

outside() { # UFW's own rules outside its chains in a saved table; see _outside
  sed -n -e '/^-A ufw/d' -e '/^-A .* -j ufw/p' -e '/^-A INPUT -i lo -j ACCEPT$/p' -e '/^-A OUTPUT -o lo -j ACCEPT$/p' "$1"
}

restore() { # iptables or ip6tables, saved table
  now=$("$1-save" -t filter) || return 1
  printf '%s\\n' "$now" > reverting/now
  {
    echo '*filter'
    sed -n 's/^:\\(ufw[^ ]*\\) .*/:\\1 - [0:0]/p' reverting/now "$2.chains" | sort -u
    cat "$2"
    grep -vxF -f reverting/now "$2.outside"
    outside reverting/now | grep -vxF -f "$2.outside" | sed 's/^-A/-D/'
    grep '^:ufw' reverting/now | grep -vxF -f "$2.chains" | sed 's/^:\\([^ ]*\\) .*/-X \\1/'
    echo COMMIT
  } | "$1-restore" --noflush
}

failed=
for family in iptables ip6tables; do
  if [ -e "reverting/$family" ]; then restore "$family" "reverting/$family" || failed=yes; fi
done
if [ -n "$failed" ]; then /lib/ufw/ufw-init force-reload; fi
rm -rf reverting
# Where the timer itself began this, it is gone already, which is no failure.
systemctl stop hearth-firewall-revert.timer 2>/dev/null || true
"""


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold UFW's lock (against people's ``ufw`` commands) and the transaction's own (against the revert script)."""
    for directory in (STATE.parent, STATE):
        directory.mkdir(mode=0o700, exist_ok=True)
    with Path("/run/ufw.lock").open("w", encoding="ascii") as ufw, (STATE / "lock").open("w", encoding="ascii") as own:
        fcntl.lockf(ufw, fcntl.LOCK_EX)
        fcntl.flock(own, fcntl.LOCK_EX)
        yield


# --- Stage -----------------------------------------------------------------------------------------------------------


def begin(wanted: Mapping[str, Any], observed: Mapping[str, Any], peer: Connection | None) -> str:
    """Stage the wanted firewall below PENDING, check it, and return the transaction's token. Raises FleetError.

    PENDING appears whole, by a rename: until then nothing has happened.
    """
    draft = STATE / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    tree = draft / "tree"
    (tree / "etc/default").mkdir(mode=0o755, parents=True)
    shutil.copytree("/etc/ufw", tree / "etc/ufw", symlinks=True)
    shutil.copy2("/etc/default/ufw", tree / "etc/default/ufw")
    _write_with_ufw(tree, wanted, target_rules(wanted, observed))
    _check_syntax(tree, ipv6=wanted["ipv6"] and observed["ipv6_kernel"])
    token = secrets.token_hex(8)
    state = {"token": token, "peer": list(peer[:2]) if peer else None, "before": {name: read(f"/{name}") for name in _FILES}}
    (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")
    _save_kernel(draft)
    draft.rename(PENDING)
    return token


def _write_with_ufw(tree: Path, wanted: Mapping[str, Any], target: Mapping[str, Sequence[Rule]]) -> None:
    """Let UFW's own library write settings and rules into the files below ``tree``, as its commands would."""
    gettext.install("ufw")  # the library expects the `_` that its command installs
    import ufw.common
    from ufw.backend_iptables import UFWBackendIptables

    # The library checks the permissions of the program that runs it; a module that came through a pipe has no file.
    argv, sys.argv = sys.argv, ["/usr/sbin/ufw"]
    try:
        backend = UFWBackendIptables(False, datadir=str(tree))
        backend.set_default(backend.files["conf"], "ENABLED", "yes" if wanted["enabled"] else "no")
        if not wanted["enabled"]:
            return
        backend.set_default(backend.files["defaults"], "IPV6", "yes" if wanted["ipv6"] else "no")
        backend.set_default(backend.files["conf"], "LOGLEVEL", wanted["logging"])
        for direction, chain in DIRECTIONS.items():
            if POLICIES[backend.defaults[f"default_{chain.lower()}_policy"].upper()] != wanted["defaults"][direction]:
                backend.set_default_policy(wanted["defaults"][direction], direction)
        # Its lists of chains depend on IPv6 and are made once, so a fresh one writes the rules.
        backend = UFWBackendIptables(False, datadir=str(tree))
        backend.initcaps()
        for family, ipv6 in (("ipv4", False), ("ipv6", True)):
            if ipv6 and not backend.use_ipv6():
                continue
            _check_limit(target[family], backend.caps["limit"]["6" if ipv6 else "4"])
            rules = _as_ufw(target[family], backend.rules6 if ipv6 else backend.rules)
            if ipv6:
                backend.rules6 = rules
            else:
                backend.rules = rules
            backend._write_rules(v6=ipv6)  # the one function that writes a whole file at once
    except ufw.common.UFWError as error:
        raise FleetError(f"ufw cannot write these rules: {error.value}") from error
    finally:
        sys.argv = argv


def _check_limit(rules: Sequence[Rule], supported: bool) -> None:
    limited = next((rule for rule in rules if rule.action == "limit"), None)
    if limited and not supported:
        raise FleetError(f"this host's kernel cannot limit connections (no xt_recent): write 'allow' instead of '{limited.text}'")


def _as_ufw(target: Sequence[Rule], present: Sequence[Any]) -> list[Any]:
    """Return the target as UFW's own rule objects: ours are made, foreign ones are those that UFW has read, in their order."""
    import ufw.common

    foreign = iter([rule for rule in present if not rule.comment.startswith(encode_comment(""))])
    result = []
    for rule in target:
        if not rule.owner:
            result.append(next(foreign))
            continue
        made = ufw.common.UFWRule(rule.action, rule.proto, dport=rule.port, src=rule.source, comment=encode_comment(rule.owner))
        made.set_v6(rule.ipv6)
        if rule.interface:
            made.set_interface("in", rule.interface)
        made.normalize()
        result.append(made)
    return result


def _check_syntax(tree: Path, *, ipv6: bool) -> None:
    """Let iptables-restore parse every rules file without loading it. Raises FleetError with its own words."""
    for suffix in ("", "6") if ipv6 else ("",):
        for name in ("before", "after", "user"):
            path = tree / f"etc/ufw/{name}{suffix}.rules"
            said = run([f"ip{suffix}tables-restore", "--test", "--noflush"], path.read_text(encoding="utf-8"))
            if said.status:
                raise FleetError(f"ip{suffix}tables-restore rejects /etc/ufw/{path.name}, nothing was changed: {said.error.strip()}")


def _save_kernel(directory: Path) -> None:
    """Keep UFW's part of the kernel's filter tables in three files per family.

    One has the policies and the rules of UFW's chains, ``.chains`` the chains, ``.outside`` UFW's rules elsewhere.
    """
    for family in ("iptables", "ip6tables"):
        said = run([f"{family}-save", "-t", "filter"])
        if said.status:
            continue
        lines = said.output.splitlines()
        kept = {
            "": [line for line in lines if line.startswith((":INPUT ", ":FORWARD ", ":OUTPUT ", "-A ufw"))],
            ".chains": [line for line in lines if line.startswith(":ufw")],
            ".outside": _outside(lines),
        }
        for suffix, part in kept.items():
            (directory / f"{family}{suffix}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")


def _outside(lines: Sequence[str]) -> list[str]:
    """Return UFW's own rules outside its chains: jumps, and the two that it adds where IPv6 is off and never takes away."""
    own = {*_jumps(lines), "-A INPUT -i lo -j ACCEPT", "-A OUTPUT -o lo -j ACCEPT"}
    return [line for line in lines if line in own]


def _jumps(lines: Sequence[str]) -> list[str]:
    """Return the rules outside UFW's chains that jump into them."""
    return [line for line in lines if line.startswith("-A ") and not line.startswith("-A ufw") and " -j ufw" in line]


# --- Arm, load, revert -----------------------------------------------------------------------------------------------


def arm(seconds: int, token: str) -> None:
    """Start the timer that reverts the change ``token`` in ``seconds``. Raises FleetError when the host cannot do that."""
    draft = REVERT_SCRIPT.with_suffix(".new")
    draft.write_text(_REVERT, encoding="utf-8")
    draft.rename(REVERT_SCRIPT)
    disarm()
    said = run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={REVERT_UNIT}",
            f"--on-active={seconds}s",
            "--timer-property=AccuracySec=1s",
            "--description=Restore the firewall rules that held before an unconfirmed change",
            "/bin/sh",
            str(REVERT_SCRIPT),
            token,
        ]
    )
    if said.status:
        shutil.rmtree(PENDING, ignore_errors=True)
        raise FleetError(f"the automatic revert could not be armed, nothing was changed: {said.error.strip()}")


def disarm() -> None:
    """Stop the timer, if it runs."""
    run(["systemctl", "stop", f"{REVERT_UNIT}.timer"])


def load(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> None:
    """Give the kernel the staged rules and see that it holds them. Raises FleetError; the caller reverts.

    Where only rules change, each family's user chains are replaced in one atomic step. Changes of policy, of IPv6 or of
    the switch go through UFW's own init script, which takes the firewall down for a moment, as ``ufw reload`` does.
    """
    tree = PENDING / "tree"
    if not wanted["enabled"]:
        _ufw_init(tree, "force-stop")
        return
    unchanged = all(observed[name] == wanted[name] for name in ("enabled", "defaults", "ipv6"))
    if unchanged and not observed["kernel"]["structure"]:
        for suffix in ("", "6") if wanted["ipv6"] and observed["ipv6_kernel"] else ("",):
            said = run([f"ip{suffix}tables-restore", "--noflush"], read(f"{tree}/etc/ufw/user{suffix}.rules"))
            if said.status:
                raise FleetError(f"ip{suffix}tables-restore failed: {said.error.strip()}")
    else:
        if run(["iptables", "-n", "-L", "ufw-before-input"]).status == 0:
            _ufw_init(tree, "force-stop")
        _remove_broken_chains()
        _ufw_init(tree, "start")
    staged = {**observed, **{name: wanted[name] for name in ("defaults", "ipv6")}}
    found = look_at_kernel(staged, f"{tree}/etc/ufw")
    problems = [*found["structure"], *found["rules"]]
    if problems:
        raise FleetError(f"the kernel did not take the rules: {'; '.join(problems)}")


def _ufw_init(tree: Path, verb: str) -> None:
    said = run([UFW_INIT, "--datadir", str(tree), verb])
    if said.status:
        raise FleetError(f"ufw-init {verb} failed: {(said.output + said.error).strip()}")


def _remove_broken_chains() -> None:
    """Remove UFW's chains and the jumps to them where jumps are missing: its init script never adds single ones.

    Complete jumps stay, so that they keep their place among those of others.
    """
    for suffix in ("", "6"):
        lines = run([f"ip{suffix}tables-save", "-t", "filter"]).output.splitlines()
        table = parse_table("\n".join(lines))
        chains = [chain for chain in table.chains if chain.startswith("ufw")]
        if not chains or not jump_problems(table, f"ufw{suffix}"):
            continue
        text = ["*filter", *(f":{chain} - [0:0]" for chain in chains)]
        text += [f"-D{line[2:]}" for line in _jumps(lines)] + [f"-X {chain}" for chain in chains]
        said = run([f"ip{suffix}tables-restore", "--noflush"], "\n".join([*text, "COMMIT", ""]))
        if said.status:
            raise FleetError(f"ip{suffix}tables-restore could not remove UFW's chains: {said.error.strip()}")


def revert(token: str = "") -> None:
    """Put the rules back that held before the change ``token`` (default: before any), or finish an interrupted commit.

    Call it without holding the lock. The timer of what was reverted is stopped; the change of another run stays untouched.
    """
    if REVERT_SCRIPT.exists():
        run(["/bin/sh", str(REVERT_SCRIPT), token])


def left_over() -> bool:
    """Whether a transaction of an earlier call is still open."""
    return any(directory.is_dir() for directory in (PENDING, REVERTING, COMMITTING))


# --- Commit ----------------------------------------------------------------------------------------------------------


def commit(token: str, peer: Connection | None) -> None:
    """Make the pending change last: move its files to /etc and stop the timer. Raises FleetError.

    ``peer`` is the connection that this call came through; it must be another than the one that made the change.
    """
    try:
        state = json.loads((PENDING / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FleetError("the change was not confirmed in time, the old rules are back") from None
    if state["token"] != token:
        raise FleetError("another run has begun a change of this firewall meanwhile; this one was reverted before")
    if peer and state["peer"] == list(peer[:2]):
        raise FleetError(
            "the call that should confirm came through the connection that made the change, so it proves nothing\n"
            "  → what keeps connections open for itself, as Mitogen does, is not for this: strategy: ansible.builtin.linear, in the play"
        )
    changed = sorted(name for name, text in state["before"].items() if read(f"/{name}") != text)
    if changed:
        raise FleetError(f"somebody changed {', '.join('/' + name for name in changed)} meanwhile; run again to take that into account")
    moves = _prepare(PENDING / "tree", state["before"], token)
    _write_durably(PENDING / "moves", "".join(f"{new} {old}\n" for new, old in moves))
    PENDING.rename(COMMITTING)
    for new, old in moves:
        new.replace(old)
    for directory in ("/etc/ufw", "/etc/default"):
        _sync(Path(directory))
    shutil.rmtree(COMMITTING)
    disarm()


def _prepare(tree: Path, before: Mapping[str, str], token: str) -> list[tuple[Path, Path]]:
    """Write the changed files beside those they will replace; return (new, old) paths in the order to move them."""
    moves = []
    for name in _install_order(tree):
        text, old = read(str(tree / name)), Path("/") / name
        if text == before[name]:
            continue
        new = old.with_name(f".{old.name}.{token}")
        _write_durably(new, text)
        there = old.stat()
        os.chown(new, there.st_uid, there.st_gid)
        new.chmod(stat.S_IMODE(there.st_mode))
        moves.append((new, old))
    return moves


def _install_order(tree: Path) -> list[str]:
    """Return the files in an order in which every step lets in whom both the old and the new configuration let in.

    What becomes stricter (a default that denies, the firewall on) moves last, what becomes looser first.
    """
    files = list(_FILES)
    looser = []
    if parse_settings(read(str(tree / "etc/ufw/ufw.conf"))).get("ENABLED") == "no":
        looser.append("etc/ufw/ufw.conf")
    if parse_settings(read(str(tree / "etc/default/ufw"))).get("DEFAULT_INPUT_POLICY") == "ACCEPT":
        looser.append("etc/default/ufw")
    return looser + [name for name in files if name not in looser]


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def enable_at_boot() -> None:
    """Let ufw.service start at boot. Raises FleetError."""
    run(["systemctl", "unmask", "--quiet", "ufw.service"])
    said = run(["systemctl", "enable", "--quiet", "ufw.service"])
    if said.status:
        raise FleetError(f"systemctl enable ufw.service failed: {said.error.strip()}")


# --- The connection that this process was called through -------------------------------------------------------------


def ssh_connection() -> Connection | None:
    """Return the SSH connection that this process was started through, or None (a local run, another kind of connection).

    sudo drops SSH_CONNECTION from the environment, so it is looked up in the ancestors', up to sshd's own child.
    """
    pid = os.getpid()
    while pid > 1:
        for item in _bytes(f"/proc/{pid}/environ").split(b"\0"):
            if item.startswith(b"SSH_CONNECTION="):
                return _parse_connection(item.decode("ascii", "replace").partition("=")[2])
        pid = _parent(pid)
    return None


def _parse_connection(text: str) -> Connection | None:
    words = text.split()
    if len(words) != 4:
        return None
    peer, local = words[0].partition("%")[0], words[2].partition("%")[0]
    return Connection(peer, int(words[1]), local, int(words[3]), interface_of(local))


def _parent(pid: int) -> int:
    fields = _bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def established(ports: Sequence[int]) -> list[Connection]:
    """Return the established TCP connections to local ``ports``: whom to protect when our own connection is not known."""
    found = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(path).splitlines()[1:]:
            words = line.split()
            local, local_port = _endpoint(words[1])
            if words[3] == "01" and local_port in ports:
                peer, peer_port = _endpoint(words[2])
                found.append(Connection(peer, peer_port, local, local_port, interface_of(local)))
    return found


def _endpoint(text: str) -> tuple[str, int]:
    """Return address and port of ``0100007F:0016``: 32-bit words in the machine's byte order, then the port."""
    digits, _colon, port = text.partition(":")
    words = [int(digits[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)


def interface_of(address: str) -> str:
    """Return the interface that carries a local address; empty when that cannot be told."""
    said = run(["ip", "-oneline", "address", "show", "to", address])
    words = said.output.split()
    return words[1].partition("@")[0] if not said.status and len(words) > 1 else ""
