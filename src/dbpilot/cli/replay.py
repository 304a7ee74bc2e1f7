"""A trace replayed against the policies that size pools: what each would have made of it, in figures."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from dbpilot.config import PoolConfig
from dbpilot.pool.sample import Decision, PoolSample, merged
from dbpilot.pool.simulation import START, Request, Simulated, Simulation

MAX_POINTS: Final = 720
"""Samples in a document, merged to as many as a chart can show."""


class Mode(StrEnum):
    """The policies that can be tried."""

    OFF = "off"
    AUTO = "auto"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True)
class World:
    """What surrounds the pool in a replay."""

    overflow: int
    cores: float | None
    connect_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a policy made of a trace; durations in seconds."""

    requests: int
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    wait_max_s: float
    database_p99_s: float
    """How long the database took for all but one in a hundred."""
    connects: int
    connection_s: float
    """Seconds that connections were open, added up."""
    resizes: int


@dataclass(frozen=True, slots=True)
class Replay:
    """One policy's run of the trace."""

    mode: Mode
    lived: Simulated
    figures: Figures


def replay(trace: Sequence[Request], mode: Mode, config: PoolConfig, world: World) -> Replay:
    """What becomes of the requests under this policy."""
    policy = config.model_copy(update={"mode": mode.value})
    simulation = Simulation(policy, world.overflow, cores=world.cores, connect_s=world.connect_s)
    lived = simulation.run(trace)
    return Replay(mode, lived, figures_of(lived))


def reviewed(one: Replay, config: PoolConfig) -> bool:
    """Whether the run took so long that a policy which reviews now and then was asked at all."""
    samples = one.lived.samples
    return bool(samples) and (samples[-1].at - START).total_seconds() >= config.review_s


def figures_of(lived: Simulated) -> Figures:
    """The run, added up."""
    waits_s, database_s = sorted(lived.waits_s), sorted(lived.database_s)
    return Figures(
        requests=len(waits_s),
        wait_p50_s=quantile(waits_s, 0.5),
        wait_p95_s=quantile(waits_s, 0.95),
        wait_p99_s=quantile(waits_s, 0.99),
        wait_max_s=waits_s[-1],
        database_p99_s=quantile(database_s, 0.99),
        connects=lived.connects,
        connection_s=lived.connection_s,
        resizes=len(lived.decisions),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def shown(samples: Sequence[PoolSample], points: int) -> list[PoolSample]:
    """The samples, merged to at most so many."""
    step = max(1, -(-len(samples) // points))
    return [merged(samples[first : first + step]) for first in range(0, len(samples), step)]


def as_document(
    source: str, trace: Sequence[Request], config: PoolConfig, world: World, replays: Sequence[Replay]
) -> dict[str, Any]:
    """The replays as one JSON document; times in seconds since the trace began."""
    policy = config.model_dump(include={"min_size", "max_size", "grow_at", "shrink_at", "review_s", "sample_s"})
    return {
        "version": 1,
        "trace": {"source": source, "requests": len(trace), "length_s": trace[-1].at_s},
        "policy": policy,
        "world": asdict(world),
        "runs": [_run(one) for one in replays],
    }


def _run(one: Replay) -> dict[str, Any]:
    return {
        "mode": one.mode.value,
        **asdict(one.figures),
        "decisions": [_decision(decision) for decision in one.lived.decisions],
        "samples": [_sample(sample) for sample in shown(one.lived.samples, MAX_POINTS)],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "at_s": (decision.at - START).total_seconds(),
        "action": decision.action,
        "before": decision.before,
        "size": decision.size,
        "limit": decision.limit,
        "reason": decision.reason,
    }


def _sample(sample: PoolSample) -> dict[str, Any]:
    return {
        "at_s": (sample.at - START).total_seconds(),
        "over_s": sample.over_s,
        "size": sample.size,
        "limit": sample.limit,
        "in_use": sample.in_use,
        "most_in_use": sample.most_in_use,
        "waiting": sample.waiting,
        "checkouts": sample.checkouts,
    }
