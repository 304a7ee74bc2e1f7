"""A change stays when it surely helps, goes when it surely does not, and nobody is fooled by noise."""

import random
from statistics import fmean, stdev

import pytest

from dbpilot.dialects.whatif import Grade
from dbpilot.indexes.changes import Promise
from dbpilot.indexes.verify import Decision, Timing, drift_of, judge

FAST, SLOW, FEW = Timing(200, 0.01, 0.004), Timing(200, 0.1, 0.04), Timing(3, 0.01, 0.004)


@pytest.mark.parametrize(
    ("ratio", "before", "after", "decision"),
    [
        (0.1, SLOW, FAST, "keep"),
        (0.1, SLOW, SLOW, "revert"),  # nothing of what was promised
        (0.1, SLOW, Timing(200, 0.075, 0.01), "keep"),  # less than a third of it, and worth it all the same
        (0.1, SLOW, Timing(200, 0.095, 0.001), "revert"),  # hardly anything
        (0.1, SLOW, FEW, "wait"),  # too few to say anything
        (0.1, FEW, FAST, "wait"),
        (0.9, SLOW, Timing(200, 0.095, 0.3), "wait"),  # it may be so, or not
        (1.0, FAST, SLOW, "revert"),  # one that should be as before
        (1.0, FAST, FAST, "wait"),  # nothing was promised, and there is time left
        (1.3, FAST, Timing(200, 0.0125, 0.004), "wait"),  # an INSERT that costs what was said
        (1.3, FAST, Timing(200, 0.02, 0.004), "revert"),  # and one that costs more
    ],
)
def test_what_was_measured_decides(ratio: float, before: Timing, after: Timing, decision: Decision) -> None:
    verdict = judge([Promise("p", ratio)], {"p": before}, {"p": after})
    assert verdict.decision == decision, verdict.reason


@pytest.mark.parametrize(
    ("grade", "after", "decision"),
    [
        ("estimate", {}, "revert"),
        ("what-if", {}, "keep"),
        ("measured", {}, "keep"),
        ("what-if", {"p": Timing(200, 0.06, 0.04)}, "keep"),
        ("measured", {"p": Timing(200, 0.099, 2.0)}, "revert"),
        ("measured", {"p": Timing(40, 0.02, 0.9)}, "revert"),  # it looks good, but may be nothing
    ],
)
def test_when_the_time_is_over_it_is_decided(grade: Grade, after: dict[str, Timing], decision: Decision) -> None:
    verdict = judge([Promise("p", 0.1)], {"p": SLOW}, after, grade=grade, expired=True)
    assert verdict.decision == decision, verdict.reason


def test_a_drop_is_harmless_when_nobody_missed_it_to_the_end() -> None:
    promises = [Promise("p", 1.0), Promise("rare", 1.0)]
    assert judge(promises, {"p": FAST}, {"p": FAST}, expired=True).decision == "keep"
    assert judge(promises, {"p": FAST}, {"p": SLOW}).decision == "revert"


def test_one_that_suffers_outweighs_many_that_gain() -> None:
    promises = [Promise("gains", 0.1), Promise("suffers", 1.0)]
    before, after = {"gains": SLOW, "suffers": FAST}, {"gains": FAST, "suffers": Timing(200, 0.013, 0.004)}
    assert judge(promises, before, after).decision == "revert"
    assert judge(promises, before, {"gains": FAST, "suffers": FAST}).decision == "keep"


def test_a_machine_that_became_slower_is_not_blamed_on_the_index() -> None:
    twice = Timing(200, 0.02, 0.008)
    before = {"p": FAST, "other": FAST, "another": FAST}
    after = {"p": twice, "other": twice, "another": twice}
    drift = drift_of(before, after, ["p"])
    assert drift == pytest.approx(2.0)
    assert judge([Promise("p", 1.0)], before, after).decision == "revert"
    assert judge([Promise("p", 1.0)], before, after, drift=drift).decision == "wait"
    assert drift_of({"p": FAST}, {"p": twice}, ["p"]) == 1.0


def test_noise_alone_takes_nothing_back() -> None:
    """A thousand times the same statement, twice, with latencies as unequal as real ones."""
    rng = random.Random(7)

    def drawn() -> Timing:
        durations = [rng.lognormvariate(-5, 0.8) for _ in range(200)]
        return Timing(len(durations), fmean(durations), stdev(durations))

    verdicts = [judge([Promise("p", 1.0)], {"p": drawn()}, {"p": drawn()}).decision for _ in range(1000)]
    assert verdicts.count("revert") <= 1
