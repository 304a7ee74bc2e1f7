"""Sees to alerts: asks the rules, keeps the book, and tells the channels from a thread of its own."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from threading import Condition, Thread
from typing import Final, Protocol

from dbpilot.alerts import Alert, AlertBook, Change, Finding, Usual, minute_findings, repetition_finding, slow_finding
from dbpilot.clock import Clock
from dbpilot.config import PilotConfig
from dbpilot.errors import PilotError, StoreError
from dbpilot.history.store import Batch, Event, Pattern, Window, added, described
from dbpilot.history.tally import Tally

log = logging.getLogger(__name__)

MAX_WAITING: Final = 100
USUAL_EVERY_S: Final = 600.0
USUAL_RANGE: Final = timedelta(days=7)
LEARNING: Final = timedelta(days=1)
"""Before so much is known, everything is new, and nothing is unusual."""
MINUTE: Final = timedelta(seconds=60)


class NotifierError(PilotError):
    """A message could not be delivered; says by what kind of channel, never its address or token."""


class Notifier(Protocol):
    """Delivers messages."""

    def send(self, title: str, message: str) -> None:
        """The message is delivered.

        Raises:
            NotifierError: it is not.
        """


@dataclass(frozen=True, slots=True)
class Delivery:
    """How telling goes."""

    configured: bool
    sent: int
    failed: int
    dropped: int
    """Messages that waited behind a channel that hangs, and were given up."""
    waiting: int
    error: str | None
    """Why the last message was not delivered; None when it was."""


@dataclass(frozen=True, slots=True)
class AlertReport:
    """Alerts that were raised between ``since`` and ``until``, or are open, the latest first."""

    since: datetime
    until: datetime
    alerts: list[Alert]
    delivery: Delivery
    history_error: str | None


Claim = Callable[[str, datetime, datetime], bool]
Counted = Callable[[datetime, datetime], Mapping[str, Tally]]
"""What was counted in a range of time, by pattern id."""


class Alerting:
    """Told by the worker what is seen, from :meth:`start` to :meth:`stop`; each call returns at once."""

    def __init__(
        self,
        config: PilotConfig,
        clock: Clock,
        notifier: Notifier | None,
        submit: Callable[[Batch], None],
        claim: Claim,
        counted: Counted,
    ) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._submit = submit
        self._claim = claim
        self._counted = counted
        self._book = AlertBook(config.alerts)
        self._windows: deque[Window] = deque()
        self._usual: Mapping[str, Usual] | None = None
        self._usual_at = float("-inf")
        self._waiting: deque[Change] = deque()
        self._wake = Condition()
        self._stopping = False
        self._thread: Thread | None = None
        self._sent = self._failed = self._dropped = 0
        self._error: str | None = None

    def start(self) -> None:
        """The thread runs."""
        self._stopping = False
        self._thread = Thread(target=self._run, name="dbpilot-alerts", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """What waits is told if that is done in time; a channel that hangs is left behind."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def slow(self, event: Event, pattern: Pattern) -> None:
        """A slow execution was seen."""
        finding = slow_finding(event, pattern, self._config.queries)
        if finding is not None and self._config.alerts.slow:
            self._tell(self._book.see([finding], event.at))

    def window(self, batch: Batch) -> None:
        """A window was finished."""
        now, patterns = self._clock.now(), {pattern.id: pattern for pattern in batch.patterns}
        self._windows.extend(batch.windows)
        while self._windows and now - self._windows[0].start > MINUTE:
            self._windows.popleft()
        minute = added(window.tallies for window in self._windows)
        findings = minute_findings(minute, patterns, self._usual, self._config.alerts)
        findings += [
            repetition_finding(event, described(patterns.get(event.key), event.key), self._config.queries.n_plus_one)
            for event in batch.events
            if event.kind == "n_plus_one"
        ]
        self._tell([*self._book.see(findings, now), *self._book.settle(now)])

    def findings(self, findings: list[Finding]) -> None:
        """Something else was looked at just now."""
        self._tell(self._book.see(findings, self._clock.now()))

    def open(self) -> list[Alert]:
        """The alerts that this process sees at this moment."""
        return list(self._book.open.values())

    def delivery(self) -> Delivery:
        """How telling goes."""
        waiting = len(self._waiting)
        return Delivery(self._notifier is not None, self._sent, self._failed, self._dropped, waiting, self._error)

    def _tell(self, changes: list[Change]) -> None:
        if not changes:
            return
        self._submit(Batch(events=[change.alert.event() for change in changes]))
        with self._wake:
            self._waiting.extend(change for change in changes if not change.silent)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._stopping, USUAL_EVERY_S / 10)
                change = self._waiting.popleft() if self._waiting else None
            if change is not None:
                self._guarded(partial(self._deliver, change))
            elif self._stopping:
                return
            else:
                self._guarded(self._learn)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the border to channels, which anybody may write
            self._failed += 1
            self._error = str(error) if isinstance(error, NotifierError) else f"the channel: {type(error).__name__}"
            log.warning("dbpilot could not tell of an alert: %s", self._error)

    def _deliver(self, change: Change) -> None:
        if self._notifier is None or not self._is_ours(change):
            return
        alert, title = change.alert, self._config.alerts.title
        if change.what == "resolved":
            lasted = (alert.last_seen - alert.since).total_seconds()
            heading, end = "over", f" It lasted {lasted:.0f} s and was seen {alert.count} times."
        else:
            heading, end = alert.severity, ""
        self._notifier.send(f"{title}: {heading} ({alert.kind})", alert.message + end)
        self._sent += 1
        self._error = None

    def _is_ours(self, change: Change) -> bool:
        """Of several processes that see the same, one tells; where nobody can be asked, each does."""
        now = self._clock.now()
        until = now + timedelta(seconds=self._config.alerts.cooldown_s)
        try:
            return self._claim(f"alert:{change.alert.name}", until, now)
        except StoreError:
            return True

    def _learn(self) -> None:
        """What is usual is read again, now and then, away from the worker."""
        if self._clock.ticks() - self._usual_at < USUAL_EVERY_S:
            return
        self._usual_at = self._clock.ticks()
        now = self._clock.now()
        try:
            long_ago = self._counted(now - USUAL_RANGE, now - LEARNING)
            lately = self._counted(now - LEARNING, now - timedelta(hours=1)) if long_ago else {}
        except StoreError:
            return
        usual = {
            id_: Usual(tally.calls, tally.histogram.quantile(0.95) or 0.0)
            for id_, tally in added([long_ago, lately]).items()
        }
        self._usual = usual or None
