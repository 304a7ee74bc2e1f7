"""What is said of an index that is advised."""

import pytest

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.advisor import Gain, NewIndexAdvice, StandIn
from dbpilot.indexes.suggestions import _evidence, _praise

SAID = "It would make one statement 8,895 times cheaper, and saves "
NAMED, SEVERAL = StandIn("ix_b", 0.359), StandIn(None, 0.359)


@pytest.mark.parametrize(
    ("saves", "stand_in", "said"),
    [
        (0.36, None, "36.0% of what the whole workload costs."),
        (0.0004, None, "less than 0.1% of what the whole workload costs."),
        (
            0.001,
            NAMED,
            "0.1% of what the whole workload costs, or 35.9% without ix_b, which is advised as well and could do "
            "nearly the same.",
        ),
        (
            0.001,
            SEVERAL,
            "0.1% of what the whole workload costs, or 35.9% without the other advised indexes, which could do nearly "
            "the same.",
        ),
    ],
)
def test_what_it_saves_is_never_told_as_nothing_and_with_what_could_do_the_same(
    saves: float, stand_in: StandIn | None, said: str
) -> None:
    gain = Gain("1", "SELECT ?", (), 10, 1.0, 8895.0, 1.0)
    index = NewIndex("t", (Key("a"),))
    advice = NewIndexAdvice(index, "ix_a", 1.0, (gain,), saves, 1e-6, "what-if", real_values=True, stand_in=stand_in)
    assert _praise(advice) == SAID + said
    assert _evidence(advice)[1] == "its upkeep costs less than 0.01% of the workload"
