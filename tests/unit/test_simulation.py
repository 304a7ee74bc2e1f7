"""Replays whose outcome can be computed by hand, the files they are read from, and how they are drawn."""

import hashlib
import struct
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from dbpilot.cli.chart import ASCII, BLOCKS, Glyphs, Scale, chart, glyphs_for
from dbpilot.cli.replay import Mode, Replay, World, quantile, replay, shown
from dbpilot.cli.trace_file import LEAST_S, as_csv, read_trace
from dbpilot.config import PoolConfig
from dbpilot.pool.sample import PoolSample
from dbpilot.pool.simulation import START, Request
from dbpilot.pool.traces import market_day
from dbpilot.reports.pool import PoolHistory, ProcessSample

MARKET_DAY = "e5d8c85328ad3f52032c981d3461a1d99ae8285760b4c33908f101d48ef60de6"
"""SHA-256 of the times of its 10,000 requests in a minute, seed 7: what was published was measured on it."""


def _replay(
    trace: list[Request],
    *,
    mode: Mode = Mode.OFF,
    size: int = 1,
    most: int = 20,
    overflow: int = 0,
    cores: float | None = None,
    connect_s: float = 0.5,
    review_s: float = 300,
) -> Replay:
    config = PoolConfig(min_size=size, max_size=most, review_s=review_s)
    return replay(trace, mode, config, World(overflow, cores, connect_s))


def test_one_connection_serves_one_after_the_other() -> None:
    lived = _replay([Request(0, 1), Request(0.25, 1), Request(0.5, 1)])
    assert lived.lived.waits_s == [0, 0.75, 1.5]
    figures = lived.figures
    assert (figures.requests, figures.wait_p50_s, figures.wait_p99_s, figures.wait_max_s) == (3, 0.75, 1.5, 1.5)
    assert (figures.connects, figures.connection_s, figures.resizes, figures.database_p99_s) == (0, 3, 0, 1)


def test_who_overflows_waits_for_the_connect_or_for_one_that_comes_back_earlier() -> None:
    lived = _replay([Request(0, 1), Request(0.25, 1)], overflow=1)
    assert lived.lived.waits_s == [0, 0.5]
    assert (lived.figures.connects, lived.figures.connection_s) == (1, 1.75 + 1.5)
    earlier = _replay([Request(0, 0.5), Request(0.25, 1)], overflow=1)
    assert (earlier.lived.waits_s, earlier.figures.connects) == ([0, 0.25], 1)


def test_a_busy_core_is_shared_evenly() -> None:
    lived = _replay([Request(0, 1), Request(0, 1)], size=2, cores=1)
    assert lived.lived.database_s == [2, 2]
    assert lived.figures.wait_max_s == 0
    assert _replay([Request(0, 1), Request(0, 1)], size=2, cores=2).lived.database_s == [1, 1]


def test_the_thresholds_resize_at_their_review() -> None:
    # Four of two are in use from 0.5 s on, two before: 3.5 on the average of two seconds. In the middle between 30 %
    # and 80 % are 3.5 of 3.5 / 0.55 = 6.4 connections.
    lived = _replay([Request(0, 2.75)] * 4, mode=Mode.AUTO, size=2, overflow=2, review_s=2)
    [decision] = lived.lived.decisions
    assert ((decision.at - START).total_seconds(), decision.before, decision.size) == (2, 2, 7)
    assert decision.reason == "3.5 of 2 connections were in use (175%): from 80% on it grows"
    assert lived.figures.resizes == 1


def test_off_decides_nothing_whatever_comes() -> None:
    lived = _replay([Request(number / 10, 1) for number in range(200)], overflow=5, review_s=1)
    assert lived.lived.decisions == []
    assert {sample.size for sample in lived.lived.samples} == {1}


def test_the_adaptive_policy_follows_within_seconds_and_waits_less() -> None:
    trace = [Request(number / 20, 0.5) for number in range(400)]
    adaptive, off = (_replay(trace, mode=mode, overflow=4, size=2) for mode in (Mode.ADAPTIVE, Mode.OFF))
    first = adaptive.lived.decisions[0]
    assert (first.at - START).total_seconds() <= 5
    assert first.size > 2
    assert adaptive.figures.wait_p95_s < off.figures.wait_p95_s


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.76, 4), (0.99, 4), (0.01, 1)])
def test_a_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    assert quantile([1, 2, 3, 4], share) == value


def test_the_market_day_is_the_one_that_was_always_measured() -> None:
    day = market_day(60, 10_000)
    times = b"".join(struct.pack("<dd", request.at_s, request.takes_s) for request in day)
    assert hashlib.sha256(times).hexdigest() == MARKET_DAY
    assert market_day(60, 100, seed=8) != market_day(60, 100)


def test_a_trace_that_was_written_is_read_to_the_microsecond(tmp_path: Path) -> None:
    path, day = tmp_path / "day.csv", market_day(60, 500)
    path.write_text("".join(f"{line}\n" for line in as_csv(day)))
    trace = read_trace(str(path))
    assert trace.notes == []
    assert [one.at_s for one in trace.requests] == pytest.approx([one.at_s for one in day], abs=1e-6)
    assert [one.takes_s for one in trace.requests] == pytest.approx([one.takes_s for one in day], abs=1e-6)


def test_times_begin_with_the_second_of_the_first_request_and_nothing_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("\ufeffat_s,takes_s\r\n1700000000.25,1\r\n\r\n1700000001.5,0\r\n")
    trace = read_trace(str(path))
    assert trace.requests == [Request(0.25, 1), Request(1.5, LEAST_S)]
    assert len(trace.notes) == 1
    assert _replay(trace.requests).figures.requests == 2


def _sample(at_s: float, *, in_use: float = 1, checkouts: int = 0, **more: float) -> PoolSample:
    at = START.fromtimestamp(at_s, START.tzinfo)
    return PoolSample(at, 2, 4, in_use, 2, 0, 0, checkouts=checkouts, **more)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two processes over four seconds from 100 on; of the second it is not known how long connections were held."""
    samples = [
        ProcessSample("host:1", _sample(102, checkouts=2, over_s=2, hold_s=0.5)),
        ProcessSample("host:1", _sample(104, checkouts=1, over_s=2, hold_s=0.25)),
        ProcessSample("host:2", _sample(104, checkouts=4, over_s=4, in_use=2)),
    ]
    history = PoolHistory(samples[0].sample.at, samples[-1].sample.at, samples, None)
    path = tmp_path / "metrics.json"
    path.write_bytes(TypeAdapter(PoolHistory).dump_json(history))
    return path


def test_recorded_checkouts_are_spread_evenly_over_their_samples(recorded: Path) -> None:
    one = read_trace(str(recorded), "host:1")
    assert one.requests == [Request(0.5, 0.5), Request(1.5, 0.5), Request(3, 0.25)]
    assert not any("added up" in note for note in one.notes)
    both = read_trace(str(recorded))
    assert [request.at_s for request in both.requests] == [0.5, 0.5, 1.5, 1.5, 2.5, 3, 3.5]
    assert sum(request.takes_s for request in both.requests) == 1.25 + 4 * 2, "by Little's law 2 s each"
    assert any("2 processes are added up into one" in note for note in both.notes)


def _drawn(glyphs: Glyphs, samples: list[PoolSample], waiting: int) -> list[str]:
    scale = Scale(connections=8, waiting=waiting)
    return [line.rstrip() for line in chart(samples, scale, 17, glyphs).lines]


def test_a_chart_shows_size_use_peak_and_who_waits() -> None:
    idle = PoolSample(START, size=4, limit=8, in_use=1.5, most_in_use=3, idle=3, waiting=0)
    busy = PoolSample(START, size=8, limit=8, in_use=6, most_in_use=7, idle=0, waiting=2)
    assert _drawn(ASCII, [idle, busy], 2) == [
        "     8      -----",
        "            '''''",
        "            #####",
        "            #####",
        "       -----#####",
        "       '''''#####",
        "       :::::#####",
        "     0 ##########",
        "     2      #####",
        "  wait      #####",
        "       0      2 s",
    ]
    assert _drawn(BLOCKS, [idle], 0)[4:] == [
        "       ━━━━━━━━━━",
        "       ░░░░░░░░░░",
        "       ▄▄▄▄▄▄▄▄▄▄",
        "     0 ██████████",
        "       nobody waited",
        "       0      1 s",
    ]


def test_a_chart_of_a_long_day_is_as_wide_as_it_may_be() -> None:
    samples = [PoolSample(START, 4, 8, 1, number % 7, 0, 0) for number in range(5000)]
    lines = chart(samples, Scale.of([samples]), 100, BLOCKS).lines
    assert max(map(len, lines)) == 100
    assert sum(sample.over_s for sample in shown(samples, 720)) == 5000
    assert len(shown(samples, 720)) <= 720


ENCODINGS = [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII)]


@pytest.mark.parametrize(("encoding", "glyphs"), ENCODINGS)
def test_what_an_encoding_cannot_show_is_drawn_with_other_characters(encoding: str | None, glyphs: Glyphs) -> None:
    assert glyphs_for(encoding) is glyphs
