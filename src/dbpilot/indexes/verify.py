"""Did a change of an index do what was promised? Decided on how long the statements really took, before and after."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Final, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dbpilot.clock import Clock
from dbpilot.dialects.whatif import Grade, Query
from dbpilot.indexes.changes import Promise

Decision = Literal["keep", "revert", "wait"]
ROWS_AT_ONCE: Final = 1000
QUIET: Final = 0.5
"""The share of executions that are taken for undisturbed, where they are ours."""
LEAST_S: Final = 0.5
MOST_TIMES: Final = 20
"""Queries that are soon done are run more often, up to so many times, so that one disturbance does not hit them all."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the executions of one pattern took."""

    calls: int
    mean_s: float
    deviation_s: float
    """The standard deviation of one execution."""

    @property
    def variance_of_mean(self) -> float:
        """How uncertain the mean is, squared."""
        return self.deviation_s**2 / self.calls if self.calls else math.inf


@dataclass(frozen=True, slots=True)
class Rule:
    """What is enough evidence, and what is good enough."""

    min_calls: int = 30
    """Before and after, of a pattern; fewer say nothing."""
    slower: float = 1.10
    """A pattern may take so much longer than it did, or than was promised."""
    share: float = 1 / 3
    """How much of the promised saving must be there: a plan that costs half takes two thirds of the time where the data
    is cached."""
    worth: float = 0.15
    """A saving of so much is enough, however much was promised: who would give it back?"""
    sigmas: float = 3.0
    """How sure one has to be: many patterns are looked at, and again and again."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of one pattern."""

    pattern_id: str
    before: Timing
    after: Timing
    ratio: float
    """Of the means, after to before, less what happened to everybody meanwhile."""
    low: float
    high: float
    """Between these the true ratio is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why."""

    decision: Decision
    reason: str
    effects: tuple[Effect, ...]


def judge(
    promises: Iterable[Promise],
    before: Mapping[str, Timing],
    after: Mapping[str, Timing],
    *,
    grade: Grade = "estimate",
    expired: bool = False,
    drift: float = 1.0,
    rule: Rule = Rule(),
) -> Verdict:
    """Whether a change stays.

    It goes as soon as one pattern is surely slower than it may be, or the saving is surely less than ``rule.share`` of
    what was promised and than ``rule.worth``; it stays as soon as the saving is surely there. When the time is over it
    stays if the saving looks like enough, and is surely more than nothing; and where nothing ran that could be
    measured, a promise that was no more than an estimate is not believed.

    Args:
        promises: every pattern that is watched.
        before: by pattern id.
        after: by pattern id.
        grade: how the promises are known.
        expired: whether the time of the trial is over.
        drift: how much slower everything else became meanwhile, see :func:`drift_of`.
        rule: what is enough.
    """
    watched = tuple(promises)
    known = {promise.pattern_id: promise for promise in watched}
    effects = tuple(
        effect(name, before[name], after[name], drift, rule) for name in known if _enough(name, before, after, rule)
    )
    slower = [one for one in effects if one.low > rule.slower * max(1.0, known[one.pattern_id].ratio)]
    if slower:
        worst = max(slower, key=lambda one: one.ratio)
        return Verdict("revert", f"pattern {worst.pattern_id} takes {worst.ratio:.2f} times as long as before", effects)
    helped = [promise for promise in watched if promise.ratio < 1]
    if not helped:
        return Verdict("keep" if expired else "wait", "nothing that was watched became slower", effects)
    return _on_the_saving(helped, effects, grade, rule, drift, expired=expired)


def effect(pattern_id: str, before: Timing, after: Timing, drift: float = 1.0, rule: Rule = Rule()) -> Effect:
    """The ratio of the means with its bounds, by the delta method on its logarithm."""
    ratio = after.mean_s / max(before.mean_s * drift, 1e-12)
    spread = math.sqrt(sum(one.variance_of_mean / max(one.mean_s, 1e-12) ** 2 for one in (before, after)))
    factor = math.exp(min(700.0, rule.sigmas * spread))
    return Effect(pattern_id, before, after, ratio, ratio / factor, ratio * factor)


def drift_of(
    before: Mapping[str, Timing],
    after: Mapping[str, Timing],
    touched: Iterable[str],
    rule: Rule = Rule(),
) -> float:
    """How much slower patterns became that the change does not touch: the middle of their ratios; 1 where none is
    known."""
    others = [name for name in before.keys() - set(touched) if _enough(name, before, after, rule)]
    return median(effect(name, before[name], after[name]).ratio for name in others) if others else 1.0


def _enough(name: str, before: Mapping[str, Timing], after: Mapping[str, Timing], rule: Rule) -> bool:
    nothing = Timing(0, 0, 0)
    return min(before.get(name, nothing).calls, after.get(name, nothing).calls) >= rule.min_calls


def _on_the_saving(
    helped: list[Promise], effects: tuple[Effect, ...], grade: Grade, rule: Rule, drift: float, *, expired: bool
) -> Verdict:
    """Of the patterns that it is made for taken together, each with the weight of its calls."""
    ratios = {promise.pattern_id: promise.ratio for promise in helped}
    seen = [one for one in effects if one.pattern_id in ratios]
    if not seen:
        believed: Decision = "keep" if grade != "estimate" else "revert"
        words = f"too few executions of what it is for; the promise is known by {grade}"
        return Verdict(believed if expired else "wait", words, effects)
    base = sum(one.after.calls * one.before.mean_s * drift for one in seen)
    now = sum(one.after.calls * one.after.mean_s for one in seen)
    promised = sum(one.after.calls * one.before.mean_s * drift * (1 - ratios[one.pattern_id]) for one in seen) / base
    saved = 1 - now / base
    variance = sum(
        one.after.calls**2 * (one.after.variance_of_mean + (one.ratio * drift) ** 2 * one.before.variance_of_mean)
        for one in seen
    )
    margin, needed = rule.sigmas * math.sqrt(variance) / base, min(rule.share * promised, rule.worth)
    words = f"{promised:.0%} of their time was promised, {saved:.0%} (+-{margin:.0%}) is saved"
    if saved + margin < needed:
        return Verdict("revert", words, effects)
    if saved - margin >= needed and len(seen) == len(helped):
        return Verdict("keep", words, effects)
    guess: Decision = "keep" if saved >= needed and saved > margin else "revert"
    return Verdict(guess if expired else "wait", words, effects)


def timing(measured_s: Sequence[float]) -> Timing:
    """What these executions say together, without the slower half: what else a machine does makes some slower."""
    durations_s = sorted(measured_s)[: math.ceil(len(measured_s) * QUIET)]
    return Timing(len(durations_s), fmean(durations_s), stdev(durations_s) if len(durations_s) > 1 else math.inf)


def measured(
    connection: Connection,
    queries: Mapping[str, Query],
    repeats: int,
    timeout_s: float,
    clock: Clock,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[str, list[float]]:
    """How long each query takes, in seconds: run ``repeats`` times or more, all in turn, but for once before that.

    The connection must be one that only reads and that has a limit of time for each statement (see
    :class:`dbpilot.dialects.connections.OwnConnections`); a query that exceeds it, or fails, counts as ``timeout_s``.
    Once ``is_over``, no more are run.
    """
    taken: dict[str, list[float]] = {name: [] for name in queries}
    began, rounds = clock.ticks(), -1
    while rounds < repeats or (clock.ticks() - began < LEAST_S and rounds < MOST_TIMES * repeats):
        for name, query in queries.items():
            if is_over():
                return taken
            duration_s = _one(connection, query, timeout_s, clock)
            if rounds >= 0:
                taken[name].append(duration_s)
        rounds += 1
        began = began if rounds else clock.ticks()
    return taken


def _one(connection: Connection, query: Query, timeout_s: float, clock: Clock) -> float:
    began = clock.ticks()
    try:
        with connection.begin_nested():
            plain = {"no_parameters": True} if query.parameters is None else {}
            result = connection.exec_driver_sql(query.statement, query.parameters, execution_options=plain)
            while result.fetchmany(ROWS_AT_ONCE):
                pass
    except DBAPIError:
        if connection.invalidated:
            raise
        return timeout_s
    return clock.ticks() - began
