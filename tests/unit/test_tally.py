"""Counts add up, and a percentile is never far off."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpilot.history.block import Block, added_up, block_of, merged
from dbpilot.history.tally import LatencyHistogram, Tally, bucket_of, middle_of

durations = st.floats(min_value=1e-7, max_value=1e5)
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)


@given(durations)
def test_a_buckets_middle_is_at_most_one_64th_off(duration_s: float) -> None:
    assert math.isclose(middle_of(bucket_of(duration_s)), duration_s, rel_tol=1 / 63)


@given(durations, durations)
def test_a_longer_duration_is_never_in_a_lower_bucket(one_s: float, other_s: float) -> None:
    short, long = sorted((one_s, other_s))
    assert bucket_of(short) <= bucket_of(long)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(min_value=0.01, max_value=1))
def test_a_quantile_is_that_of_the_sorted_list(values: list[float], share: float) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, rel=1 / 63)


def test_nothing_counted_has_no_quantile() -> None:
    assert LatencyHistogram().quantile(0.5) is None


@given(st.lists(durations), st.lists(durations))
def test_two_histograms_merge_without_loss(one: list[float], other: list[float]) -> None:
    parts = [LatencyHistogram(), LatencyHistogram()]
    whole = LatencyHistogram()
    for part, values in zip(parts, (one, other), strict=True):
        for value in values:
            part.add(value)
            whole.add(value)
    parts[0].merge(parts[1])
    assert list(parts[0].items()) == list(whole.items())


def test_a_copy_counts_on_by_itself() -> None:
    tally = Tally()
    tally.add(NOON, 0.5, 0.0, 1, "E", slow_s=1)
    copy = tally.copy()
    tally.add(NOON, 0.5, 0.0, 1, "E", slow_s=1)
    assert (copy.calls, copy.failed, copy.histogram.at_most(1)) == (1, 1, 1)


def test_a_tally_counts_failures_among_the_calls() -> None:
    tally = Tally()
    tally.add(NOON, 0.5, 0.25, rows=3, error=None, slow_s=1)
    tally.add(NOON + timedelta(seconds=1), 1.0, 0.0, rows=-1, error="IntegrityError 1062", slow_s=1)
    assert (tally.calls, tally.failed, tally.slow, tally.rows) == (2, 1, 1, 3)
    assert (tally.mean_s, tally.min_s, tally.max_s, tally.fetch_s) == (0.75, 0.5, 1.0, 0.25)
    assert tally.last_seen == NOON + timedelta(seconds=1)


def test_merged_tallies_count_as_if_counted_once() -> None:
    apart, whole = [Tally(), Tally()], Tally()
    for number, part in enumerate(apart):
        for duration_s in (0.1, 2.0 + number):
            for tally in (part, whole):
                tally.add(NOON + timedelta(hours=number), duration_s, 0.01, 1, f"E{number}", slow_s=1)
    apart[0].merge(apart[1])
    assert list(apart[0].histogram.items()) == list(whole.histogram.items())
    assert (apart[0].calls, apart[0].slow, apart[0].errors) == (whole.calls, whole.slow, whole.errors)
    assert (apart[0].min_s, apart[0].max_s, apart[0].last_seen) == (whole.min_s, whole.max_s, whole.last_seen)


def test_blocks_of_thousands_of_patterns_add_up_to_the_sums_of_their_tallies() -> None:
    counted: dict[str, Tally] = {}
    blocks = []
    for process in range(3):
        tallies = {f"{number:016x}": Tally() for number in range(process * 700, 2500 + process * 300)}
        for number, (id_, tally) in enumerate(tallies.items()):
            for call in range(1 + number % 3):
                tally.add(NOON, 1e-6 * (number + 1) * (call + 1), 0.0, 1, "E" if number % 50 == 0 else None, 1.0)
            counted.setdefault(id_, Tally()).merge(tally)
        blocks.append(block_of(tallies))
    stored = Block.from_bytes(merged(blocks).to_bytes(compressed=True))
    total = added_up([stored])
    assert total.keys() == counted.keys()
    for id_, tally in counted.items():
        assert (total[id_].calls, total[id_].errors) == (tally.calls, tally.errors)
        assert list(total[id_].histogram.items()) == list(tally.histogram.items())
