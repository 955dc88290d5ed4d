"""The kill switch: rules in one small file of the store, looked at before every call.

The file is replaced as a whole, so a reader sees one state or the other. It can
be written by hand where flightlog is not at hand:

    {"version": 1, "rules": [{"mode": "stop_all", "why": "vendor outage"}]}

What stands for what:

* No file: off. `flightlog kill off` leaves a file without rules behind; removing
  the file is off too.
* A file that cannot be read or understood: `stop_all`. Somebody wanted to stop
  something, and what it was must not be guessed. An empty file is one of these.
* The folder of the file is gone (store deleted, disk unmounted): the rules that
  the process read last stay in force. What was stopped does not start again
  because its store went away; what was allowed is not stopped by that either,
  as a store that fails does not take the agent down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flightlog.control.kill_file import DEFAULT_TIMEOUT_S, KillFile, Reading
from flightlog.control.kill_rule import KillMode, KillRule, parse_mode
from flightlog.errors import StoreError

__all__ = ["KillMode", "KillRule", "KillSwitch", "parse_mode"]


class KillSwitch:
    """The kill switch of a store, or of this process alone. Safe in threads and over fork.

    A check costs one `stat` of the file while nothing changed; a change takes
    effect at the next call in every process on the store.

    Args:
        path: the file; made with its folder when something is switched on. None: in
            this process only; a forked child goes on with a copy.
        timeout_s: longest wait for another process that switches, seconds.
        redact: takes secrets out of who and why; None leaves them.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self._redact = redact
        self._file = None if path is None else KillFile(path, timeout_s=timeout_s)
        self._held = Reading()
        self._lock = threading.Lock()

    def rules(self) -> tuple[KillRule, ...]:
        """All rules in force; does not raise."""
        return self._current().rules

    def rule_for(
        self, *, tenant: str | None, tool: str | None, is_write: bool, configured: str
    ) -> KillRule | None:
        """The most severe rule that forbids a call; None when the call may be made.

        Does not raise.

        Args:
            tenant: of the run; None where it has none.
            tool: name of the tool; None asks for a model call, which only `stop_all` forbids.
            is_write: whether the tool may change something.
            configured: the agent's own mode, which stands in for `configured`.

        Returns:
            The rule, with `configured` replaced by what it means for this agent.
        """
        by_tenant = self._current().by_tenant
        if not by_tenant:
            return None
        applying = by_tenant.get(None, ())
        if tenant is not None:
            applying += by_tenant.get(tenant, ())
        found: KillRule | None = None
        for one in applying:
            rule = one.resolved(configured)
            if rule.forbids(tool, is_write=is_write) and (
                found is None or rule.severity > found.severity
            ):
                found = rule
        return found

    def turn_on(
        self,
        mode: KillMode,
        *,
        tools: str | None = None,
        tenant: str | None = None,
        who: str,
        why: str,
        at_us: int,
    ) -> KillRule:
        """Puts a rule in force, in place of the one for the same tenant (or for all runs).

        Raises:
            UsageError: `tools` does not fit the mode, the tenant is empty, or the texts
                are longer than a file may be.
            StoreError: the file cannot be written, or what it holds is not understood.
        """
        rule = KillRule(KillMode(mode), tools, tenant, who, why, at_us)
        self.put(rule)
        return rule

    def put(self, rule: KillRule) -> KillRule | None:
        """As `turn_on`; gives the rule whose place it took, None where there was none.

        Raises:
            UsageError: as `turn_on`.
            StoreError: as `turn_on`.
        """
        rule.check()
        rule = replace(rule, who=self._redacted(rule.who), why=self._redacted(rule.why))
        replaced: list[KillRule] = []

        def changed(before: Reading) -> tuple[KillRule, ...]:
            is_widest = rule.mode is KillMode.STOP_ALL and rule.tenant is None
            if before.problem and not is_widest:  # all is stopped: any other rule would loosen it
                raise self._not_understood(before.problem)
            replaced.extend(one for one in before.rules if one.tenant == rule.tenant)
            return (*(one for one in before.rules if one.tenant != rule.tenant), rule)

        self._change(changed, at_us=rule.at_us)
        return replaced[0] if replaced else None

    def turn_off(
        self, *, tenant: str | None = None, everything: bool = False
    ) -> tuple[KillRule, ...]:
        """Ends the rule for all runs, or the one for `tenant`.

        Args:
            everything: end all rules, also of a file that is not understood.

        Returns:
            The rules that were in force; empty when there was nothing to end.

        Raises:
            StoreError: the file cannot be written, or what it holds is not understood.
        """
        removed: list[KillRule] = []

        def changed(before: Reading) -> tuple[KillRule, ...]:
            if before.problem and not everything:
                raise self._not_understood(before.problem)
            removed.extend(one for one in before.rules if everything or one.tenant == tenant)
            return tuple(one for one in before.rules if one not in removed)

        if self.rules():
            self._change(changed, at_us=None)
        return tuple(removed)

    def _redacted(self, text: str) -> str:
        if self._redact is None:
            return text
        try:
            return self._redact(text)
        except Exception as error:  # what is to be stopped is stopped all the same
            return f"left out: {type(error).__name__}"

    def _change(
        self, changed: Callable[[Reading], tuple[KillRule, ...]], *, at_us: int | None
    ) -> None:
        if self._file is not None:
            self._file.change(changed, at_us=at_us)
            return
        with self._lock:
            self._held = Reading.of(changed(self._held))

    def _current(self) -> Reading:
        return self._held if self._file is None else self._file.current()

    def _not_understood(self, problem: str) -> StoreError:
        return StoreError(
            f"everything is stopped already: the file is not understood ({problem})",
            where=str(self._file.path) if self._file is not None else "",
            hint="See what is in it, or replace it: flightlog kill off --all",
        )
