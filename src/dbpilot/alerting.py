"""Sees to alerts: asks the rules, keeps the book, and tells the channels from a thread of its own."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Condition, Thread
from typing import Final, Protocol

from dbpilot.alerts import (
    LONGEST_MUTE,
    RANK,
    SAID_EVERY,
    Alert,
    AlertBook,
    Change,
    Finding,
    Severity,
    Sightings,
    Usual,
    last_sighting,
    minute_findings,
    mutes_in,
    repetition_finding,
    slow_finding,
)
from dbpilot.clock import Clock
from dbpilot.config import PilotConfig
from dbpilot.errors import PilotError, StoreError
from dbpilot.history.store import Batch, Event, Pattern, Window, added, described
from dbpilot.history.tally import Tally

log = logging.getLogger(__name__)

ALERTS_THREAD: Final = "dbpilot-alerts"
MAX_WAITING: Final = 100
MAX_TRIES: Final = 5
"""How often a message is sent, a minute apart, to a channel that does not take it."""
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
Seen = Callable[[datetime, datetime], Iterable[Event]]
"""What all processes said in a range of time of when they saw their open alerts: events of the kind SIGHTINGS."""


def _nobody_else(_since: datetime, _until: datetime) -> Iterable[Event]:
    return ()


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
        seen: Seen = _nobody_else,
        mutes: Seen = _nobody_else,
    ) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._submit = submit
        self._claim = claim
        self._counted = counted
        self._seen = seen
        self._mutes = mutes
        self._book = AlertBook(config.alerts)
        self._recover = timedelta(seconds=config.alerts.recover_s)
        self._sightings = Sightings(min(SAID_EVERY, self._recover / 2))
        self._windows: deque[Window] = deque()
        self._usual: Mapping[str, Usual] | None = None
        self._usual_at = float("-inf")
        self._waiting: deque[Change] = deque()
        self._later: dict[str, tuple[datetime, Change]] = {}
        """What is over here and goes on in another process: when to ask again, and what to tell then."""
        self._tries: dict[str, int] = {}
        """How often each message that waits to be told again was refused."""
        self._wake = Condition()
        self._stopping = False
        self._thread: Thread | None = None
        self._sent = self._failed = self._dropped = 0
        self._error: str | None = None

    def start(self) -> None:
        """The thread runs."""
        self._stopping = False
        thread = Thread(target=self._run, name=ALERTS_THREAD, daemon=True)
        thread.start()
        self._thread = thread  # one that could not be started is not waited for

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
        news = self._sightings.news(self._book.open, now)
        if news is not None:
            self._submit(Batch(events=[news]))
        with self._wake:
            self._wake.notify()  # the time to ask again may have come

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
                self._wake.wait_for(lambda: self._waiting or self._stopping or self._due(), USUAL_EVERY_S / 10)
                change = self._next()
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

    def _next(self) -> Change | None:
        """What is to be told now."""
        if self._waiting:
            return self._waiting.popleft()
        due = self._due()
        return self._later.pop(due)[1] if due is not None else None

    def _due(self) -> str | None:
        now = self._clock.now()
        return next((name for name, (at, _) in self._later.items() if at <= now), None)

    def _deliver(self, change: Change) -> None:
        if self._notifier is None or self._is_muted(change):
            return
        if change.what == "resolved":
            change = replace(change, alert=replace(change.alert, last_seen=self._last_seen(change.alert)))
            over_at = change.alert.last_seen + self._recover
            if over_at > self._clock.now():
                self._later[change.alert.name] = (over_at, change)
                return
        if not self._is_ours(change):
            return
        self._later.pop(change.alert.name, None)  # it has begun or ended anew
        self._send(self._notifier, change)

    def _is_muted(self, change: Change) -> bool:
        """Whether somebody asked for quiet; what goes on after that, or is unmuted, is told of then."""
        name, now = change.alert.name, self._clock.now()
        if name not in mutes_in(self._mutes(now - LONGEST_MUTE, now + MINUTE), now):
            return False
        self._later.pop(name, None)
        if change.what != "resolved" and name in self._book.open:
            self._later[name] = (now + MINUTE, change)
        return True

    def _send(self, notifier: Notifier, change: Change) -> None:
        alert, title = change.alert, self._config.alerts.title
        if change.what == "resolved":
            lasted = (alert.last_seen - alert.since).total_seconds()
            heading, end = "over", f" It lasted {lasted:.0f} s and was seen {alert.count} times."
        else:
            heading, end = alert.severity, ""
        try:
            notifier.send(f"{title}: {heading} ({alert.kind})", alert.message + end)
        except NotifierError:
            self._try_again(change)
            raise
        self._tries.pop(alert.name, None)
        self._sent += 1
        self._error = None

    def _try_again(self, change: Change) -> None:
        """It is told later, unless that was tried often enough."""
        name, tries = change.alert.name, self._tries.pop(change.alert.name, 0) + 1
        if tries < MAX_TRIES:
            self._tries[name] = tries
            self._later[name] = (self._clock.now() + MINUTE, change)

    def _last_seen(self, alert: Alert) -> datetime:
        """When this process or another one saw it last; where nobody can be asked, this one knows best."""
        again = self._book.open.get(alert.name)
        mine = replace(alert, last_seen=max(alert.last_seen, again.last_seen)) if again else alert
        try:
            return last_sighting(mine, self._seen(alert.last_seen, self._clock.now() + MINUTE))
        except StoreError:
            return mine.last_seen

    def _is_ours(self, change: Change) -> bool:
        """Of several processes that see the same, one tells; where nobody can be asked, each does.

        Who tells of a severity speaks for the lower ones as well, and keeps nobody from telling of a higher one. Of
        those who told, each of another severity, one says that it is over.
        """
        alert, now = change.alert, self._clock.now()
        until = now + timedelta(seconds=self._config.alerts.cooldown_s)
        speaks_for: list[Severity] = [severity for severity in RANK if RANK[severity] <= RANK[alert.severity]]
        try:
            claimed = [self._claim(f"alert:{alert.name}:{severity}", until, now) for severity in speaks_for]
            if change.what != "resolved" or not claimed[-1]:
                return claimed[-1]
            return self._claim(f"alert:{alert.name}:over", now + max(self._recover, MINUTE), now)
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
