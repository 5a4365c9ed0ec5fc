# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show a rollout host by host, everything else without noise, and write the report; see the documentation below."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: stdout
short_description: Show rollouts phase by phase and everything else without noise, and write a report
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Shows one line for each host and phase of a rollout, a line for each batch with what is done and how long the rest takes, and at the end
    what state every host is in, and the next command.
  - Writes a page about the rollout that needs nothing but itself, and the same as JSON. Both are written again after every host, so that
    they are there too when the run fails, is interrupted or killed. A run in check mode writes nothing.
  - Shows other plays as P(ansible.builtin.default#callback) does, except for what says nothing, which are skipped tasks, includes, and
    tasks that found everything as it should be. Changes, failures, warnings, differences and P(ansible.builtin.debug#module) are shown.
    With C(-v) nothing is hidden. It has the options of that callback, too.
  - Tells Grafana and Prometheus about the rollout where O(grafana_url), O(pushgateway_url) or O(metrics_file) are given. That neither of
    them answers is a warning, never a failure.
requirements:
  - set as C(stdout_callback) in the configuration
extends_documentation_fragment:
  - ansible.builtin.default_callback
  - ansible.builtin.result_format_callback
options:
  display_skipped_hosts:
    name: Show skipped hosts
    description: Whether to show skipped tasks, and the name of each task before it has a result.
    type: bool
    default: false
    env:
      - name: ANSIBLE_DISPLAY_SKIPPED_HOSTS
    ini:
      - key: display_skipped_hosts
        section: defaults
  quiet:
    description: Whether to hide includes and tasks that found everything as it should be.
    type: bool
    default: true
    env:
      - name: HEARTH_QUIET
    ini:
      - key: quiet
        section: hearth
    version_added: "0.1.0"
  rollout_report:
    description:
      - Where the page goes; the JSON is beside it, with the suffix C(.json). C({id}) stands for the rollout's id. Missing directories are made.
      - Empty for no report.
      - The variable of this name counts as an extra variable (C(-e)) only.
    type: str
    default: reports/rollout-{id}.html
    env:
      - name: HEARTH_ROLLOUT_REPORT
    ini:
      - key: rollout_report
        section: hearth
    vars:
      - name: rollout_report
    version_added: "0.1.0"
  grafana_url:
    description: A Grafana that gets an annotation for the rollout and one for each of its hosts, such as C(https://grafana.example.org).
    type: str
    default: ""
    env:
      - name: HEARTH_GRAFANA_URL
    ini:
      - key: grafana_url
        section: hearth
    version_added: "0.1.0"
  grafana_token:
    description: The token of a service account that may write annotations. Never shown, and not read from files, which others might read.
    type: str
    default: ""
    env:
      - name: HEARTH_GRAFANA_TOKEN
    version_added: "0.1.0"
  pushgateway_url:
    description: A Pushgateway that gets the metrics of the rollout, as job C(hearth_rollout).
    type: str
    default: ""
    env:
      - name: HEARTH_PUSHGATEWAY_URL
    ini:
      - key: pushgateway_url
        section: hearth
    version_added: "0.1.0"
  metrics_file:
    description: A file that gets the metrics of the rollout, for the textfile collector of a node_exporter on the controller.
    type: str
    default: ""
    env:
      - name: HEARTH_METRICS_FILE
    ini:
      - key: metrics_file
        section: hearth
    version_added: "0.1.0"
"""

import functools
import getpass
import importlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default


class OnDemand:
    """A file of the collection that is imported when it is first used: most runs are no rollouts, and Ansible compiles it every time."""

    def __init__(self, name: str) -> None:
        self._name = f"ansible_collections.hearth.fleet.plugins.module_utils.{name}"

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


quantities: Any = OnDemand("quantities")
rollout_announce: Any = OnDemand("rollout_announce")
rollout_page: Any = OnDemand("rollout_page")
rollout_report: Any = OnDemand("rollout_report")

PLAN = "hearth.fleet.rollout_plan"
TRANSACTION = "hearth.fleet.transaction"
BEGUN = "begun"
"""The phase of a host that was told to begin, until it says more."""

_COLORS = {"committed": constants.COLOR_CHANGED, "running": constants.COLOR_VERBOSE}


def harmless(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method return None instead of raising: the report of a rollout must not break the rollout."""

    @functools.wraps(method)
    def careful(self: CallbackModule, *args: Any) -> Any:
        try:
            return method(self, *args)
        except Exception as error:  # whatever it is, the run goes on
            self.complain(f"{type(error).__name__} in {method.__name__}: {error}")
            return None

    return careful


class CallbackModule(Default):  # type: ignore[misc]  # ansible-core ships no types
    """The default callback, which hides what says nothing, and takes the results of rollouts for itself."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "hearth.fleet.rollout"

    def __init__(self) -> None:
        super().__init__()
        self._events: list[dict[str, Any]] = []
        self._playbook = ""
        self._report_path: str | None = None
        self._batch: Mapping[str, Any] | None = None  # the one that the task at hand is about
        self._host_width = 0  # of the longest name in the play, as in the lines about phases
        self._complaints: set[str] = set()
        self._first_failure = ""
        self._shown_play = ""
        self._play_is_due = False

    def complain(self, problem: str) -> None:
        """Warn, once, about something that is wrong with the report, and not with the run."""
        if problem not in self._complaints:
            self._complaints.add(problem)
            self._display.warning(f"the report of the rollout: {rollout_report.text(problem)}")

    # Playbook and plays

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Note the playbook's name."""
        self._playbook = Path(str(getattr(playbook, "_file_name", ""))).stem.replace("-", "_")
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Keep the play's banner until it turns out to have a task, so that plays without hosts say nothing."""
        self._read_extra_variables(play)
        self._measure_names(play)
        if not self._quiet():
            super().v2_playbook_on_play_start(play)
            return
        self._play = play  # what the default sets, for its lines about tasks
        self._play_is_due = True

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing about a play that has nothing to do."""
        if not self._quiet():
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Show the play's banner when it is due; the task's own comes with its first line."""
        self._batch = None
        self._show_play()
        super().v2_playbook_on_task_start(task, is_conditional)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Show the play's banner when it is due."""
        self._show_play()
        super().v2_playbook_on_handler_task_start(task)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Show includes only when everything is shown."""
        if not self._quiet():
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the recap, and after it how the rollout ended."""
        super().v2_playbook_on_stats(stats)
        self._finish(stats)

    # Results

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Show which batch begins with this host."""
        self._begin(host.get_name(), task)
        super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Take what belongs to a rollout; show what has changed or was asked for."""
        if self._take(result, False):
            self._show_warnings(result)
            return
        if self._says_nothing(result):
            self._show_warnings(result)
            return
        super().v2_runner_on_ok(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Take back that a host has begun: it is not of the batch."""
        self._take_back(result)
        super().v2_runner_on_skipped(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Take what belongs to a rollout; show everything else."""
        if self._take(result, True):
            if ignore_errors:
                self._display.display("...ignoring", color=constants.COLOR_SKIP)
            return
        if not ignore_errors:
            self._note_failure(result)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note that nobody knows the state of a host, and show why."""
        self._take(result, True)
        self._note_failure(result)
        super().v2_runner_on_unreachable(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Show items as results."""
        if not self._says_nothing(result) and _action(result) != TRANSACTION:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show items as results; those of a rollout come with the result of the whole loop."""
        if _action(result) != TRANSACTION or "transaction" not in _data(result):
            super().v2_runner_item_on_failed(result)

    # What is quiet

    def _quiet(self) -> bool:
        return bool(self.get_option("quiet")) and self._display.verbosity == 0

    @harmless
    def _says_nothing(self, result: Any) -> bool:
        """Return whether a result is one of those that are hidden: an include, or all as it should be and nothing to read."""
        data = _data(result)
        if not self._quiet() or data.get("changed"):
            return False
        loop = _task(result).loop and "results" in data
        return isinstance(_task(result), TaskInclude) or bool(loop) or not self._run_is_verbose(result)

    @harmless
    def _show_warnings(self, result: Any) -> None:
        # ansible-core 2.19 has renamed it.
        show = getattr(self, "_handle_warnings_and_exception", None)
        if show is None:
            self._handle_warnings(_data(result))
        else:
            show(result)

    @harmless
    def _show_play(self) -> None:
        """Show the banner of the play that has begun; the batches of a play are one play to its reader."""
        if not self._play_is_due:
            return
        self._play_is_due = False
        name = f"{self._play._uuid} {self._play.get_name()}"
        if name != self._shown_play:
            self._shown_play = name
            super().v2_playbook_on_play_start(self._play)

    # Events of the rollout

    @harmless
    def _begin(self, host: str, task: Any) -> None:
        """Show the batch that begins with a host, and note that the host is on its way: this run may not see it arrive.

        A task begins on the hosts of other batches too, and is skipped there.
        """
        if not _drives(task) or "batch" not in task.args or task.check_mode:
            return
        report = self._document()
        if self._batch is None:
            waiting = {(row["service"], row["batch"]) for row in report["rows"] if row["outcome"] == "pending"}
            self._batch = next((one for one in report["batches"] if (one["service"], one["number"]) in waiting), {"hosts": []})
            if self._batch["hosts"]:
                self._display.display(f"\n{_batch_line(self._batch, rollout_report.progress(report))}", color=constants.COLOR_HIGHLIGHT)
        if host in self._batch["hosts"]:
            state = {"service": self._batch["service"], "phase": BEGUN, "started": time.time()}
            self._add({"event": "transaction", "host": host, "batch": self._batch, "state": state})

    @harmless
    def _take_back(self, result: Any) -> None:
        if _action(result) == TRANSACTION:
            host = result._host.get_name()
            self._events = [one for one in self._events if one.get("host") != host or one["state"] is None or one["state"].get("phase") != BEGUN]

    @harmless
    def _take(self, result: Any, failed: bool) -> bool:
        """Take a result into the report; return whether that has shown it, so that the default needs not."""
        action, data, task = _action(result), _data(result), _task(result)
        if action.startswith("hearth.fleet."):
            decisions = data.get("decisions")
            self._events += [{**one, "event": "decision"} for one in decisions if isinstance(one, Mapping)] if isinstance(decisions, list) else []
        if action == PLAN and isinstance(data.get("rollout_plan"), Mapping):
            return self._refuse(result) if failed else self._take_plan(data)
        if action != TRANSACTION or task.check_mode:
            return False
        items = data["results"] if task.loop and "results" in data else [data]
        told = [self._take_transaction(result, one, failed) for one in items]
        return bool(told) and all(told)

    def _take_plan(self, data: Mapping[str, Any]) -> bool:
        plan = data["rollout_plan"]
        given = data.get("rollout") if isinstance(data.get("rollout"), Mapping) else {}
        event = {
            "event": "rollout",
            "id": plan.get("id"),
            "owner": _owner(),
            "playbook": self._playbook,
            "command": _command(),
            **given,
            "plan": plan,
        }
        known = [one["plan"] for one in self._events if one["event"] == "rollout"]
        if not known or known[-1] != plan:  # a task without run_once brings it once for each host
            self._add(event)
        return self._quiet()

    def _refuse(self, result: Any) -> bool:
        """Show why a plan was refused, in words instead of all of its data."""
        said = [str(_data(result).get(key) or "") for key in ("shown", "msg")]
        self._note_failure(result)
        self._display.display("\n\n".join(filter(None, said)), color=constants.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))
        return True

    def _take_transaction(self, result: Any, data: Mapping[str, Any], failed: bool) -> bool:
        """Note what became of a host, and show it in one line; return whether it could be shown."""
        host, state = result._host.get_name(), data.get("transaction")
        known = isinstance(state, Mapping) and "outcome" in state
        if not known and not (failed and _drives(_task(result))):
            return False
        event = {"event": "transaction", "host": host, "batch": data.get("batch"), "evidence": data.get("evidence")}
        self._add({**event, "state": state if known else None, "said": data.get("msg")})
        if not known or state.get("outcome") == "unknown":
            return False
        row = next(row for row in self._document()["rows"] if row["host"] == host and row["service"] == rollout_report.text(state.get("service")))
        if failed:
            said = rollout_report.failure(host, state, rollout_report.text(data.get("evidence")))
            self._display.display(said, color=constants.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))
        else:
            said = rollout_report.line(host, rollout_report.WORDS[row["outcome"]], row["seconds"], row["state"], self._host_width)
            self._display.display(said, color=_COLORS.get(row["outcome"], constants.COLOR_WARN))
        return True

    @harmless
    def _note_failure(self, result: Any) -> None:
        if not self._first_failure and not getattr(_task(result), "ignore_unreachable", False):
            said = rollout_report.text("; ".join(_of_items(_data(result))) or _data(result).get("msg"))
            self._first_failure = f"{result._host.get_name()}, {_task(result).get_name()}: {said}"

    def _add(self, event: dict[str, Any]) -> None:
        self._events.append({"at": time.time(), **event})
        self._write()

    def _document(self) -> dict[str, Any]:
        return rollout_report.document(self._events, time.time())

    @harmless
    def _finish(self, stats: Any) -> None:
        if not any(event["event"] in ("rollout", "transaction") for event in self._events):
            return
        summaries = [stats.summarize(host) for host in stats.processed]
        failed = any(one["failures"] or one["unreachable"] for one in summaries)
        self._add({"event": "end", "failed": failed, "said": self._first_failure})
        report = self._document()
        if context.CLIARGS.get("check"):
            return
        if report["outcome"] != "nothing":
            self._display.display(rollout_report.terminal(report, self._path(report, ".html")))
            self._announce(report)

    # Where it goes

    @harmless
    def _read_extra_variables(self, play: Any) -> None:
        """Take ``-e rollout_report=PATH``, which ansible-core 2.21 resolves by itself, and older ones do not."""
        given = play.get_variable_manager().extra_vars.get("rollout_report")
        if isinstance(given, str) and "{{" not in given:
            self._report_path = given
        elif given in (False, None) and "rollout_report" in play.get_variable_manager().extra_vars:
            self._report_path = ""

    @harmless
    def _measure_names(self, play: Any) -> None:
        names = play.get_variable_manager().get_vars(play=play, include_hostvars=False)["ansible_play_hosts_all"]
        self._host_width = max(map(len, names), default=0)

    def _path(self, report: Mapping[str, Any], suffix: str) -> str:
        """Return where the report goes, empty for nowhere."""
        given = self.get_option("rollout_report") if self._report_path is None else self._report_path
        if not given:
            return ""
        # The id comes from the hosts as well: it must not lead elsewhere.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", report["id"]).lstrip(".") or "unnamed"
        return str(Path(given.replace("{id}", name)).expanduser().with_suffix(suffix))

    @harmless
    def _write(self) -> None:
        report = self._document()
        path = self._path(report, ".html")
        if not path or context.CLIARGS.get("check") or (not report["rows"] and report["outcome"] in ("nothing", "unfinished")):
            return
        replace(path, rollout_page.page(report))
        replace(self._path(report, ".json"), json.dumps(report, indent=2, ensure_ascii=False) + "\n")

    @harmless
    def _announce(self, report: Mapping[str, Any]) -> None:
        """Tell Grafana and Prometheus; one that does not answer is asked once."""
        if self.get_option("metrics_file"):
            replace(self.get_option("metrics_file"), rollout_report.metrics(report))
        problem = ""
        if self.get_option("pushgateway_url"):
            url = f"{self.get_option('pushgateway_url').rstrip('/')}/metrics/job/hearth_rollout"
            problem = rollout_announce.post(url, rollout_report.metrics(report).encode(), {"Content-Type": "text/plain; version=0.0.4"}, "PUT")
        if problem:
            self.complain(problem)
        if self.get_option("grafana_url"):
            url = f"{self.get_option('grafana_url').rstrip('/')}/api/annotations"
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.get_option('grafana_token')}"}
            bodies = (json.dumps(one).encode() for one in rollout_report.grafana_annotations(report))
            problem = next(filter(None, (rollout_announce.post(url, body, headers) for body in bodies)), "")
            if problem:
                self.complain(problem)


def replace(path: str, content: str) -> None:
    """Write a file whole or not at all, so that a reader, or a kill, never sees half of one."""
    target = Path(path).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _batch_line(batch: Mapping[str, Any], progress: Mapping[str, Any]) -> str:
    left = f", about {quantities.duration_text(progress['left_seconds'])} left" if progress["left_seconds"] else ""
    return f"{rollout_report.batch_text(batch)}: {', '.join(batch['hosts'])} ({progress['done']} of {progress['hosts']} done{left})"


def _owner() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):
        return socket.gethostname()


def _command() -> str:
    return rollout_report.same_command(context.CLIARGS, constants.DEFAULT_HOST_LIST)


def _task(result: Any) -> Any:
    return result._task


def _data(result: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result._result
    return found


def _of_items(data: Mapping[str, Any]) -> list[str]:
    """Return what the failed items of a loop said; the loop itself only says that there are some. ansible-core 2.21 does not mark them."""
    items = [one for one in data.get("results") or [] if isinstance(one, Mapping) and (one.get("failed") or "exception" in one)]
    return [str(one["msg"]) for one in items if one.get("msg")]


def _action(result: Any) -> str:
    return _named(_task(result))


def _named(task: Any) -> str:
    return str(getattr(task, "resolved_action", None) or task.action)


def _drives(task: Any) -> bool:
    """Return whether a task takes hosts through their transactions, and does not only prepare them."""
    return _named(task) == TRANSACTION and task.args.get("state", "done") == "done"
