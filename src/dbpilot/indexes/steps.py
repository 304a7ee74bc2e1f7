"""Steps are taken one after another; one that waits for an index is left out as long as that is not there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from dbpilot.errors import NotThereError, RefusedError
from dbpilot.indexes.apply import Outcome
from dbpilot.indexes.changes import Change
from dbpilot.indexes.suggestions import Suggestion, not_there

MADE: Final = frozenset({"planned", "watching", "kept", "already there"})
"""An index of which one of these is said is there, or would be."""


def chosen(known: Sequence[Suggestion], ids: Iterable[str]) -> list[Suggestion]:
    """The steps with these ids, in the order to take them.

    Raises:
        NotThereError: there is no such step; names near ones.
    """
    wanted, by_id = list(ids), {step.id: step for step in known}
    for one in wanted:
        if one not in by_id:
            raise NotThereError(not_there("step", one, by_id))
    return [step for step in known if step.id in wanted]


def change_of(step: Suggestion) -> Change:
    """What an applier takes.

    Raises:
        RefusedError: the step has to be taken by hand.
    """
    change = step.change()
    if change is None:
        raise RefusedError(
            f"{step.ddl!r} has to be executed by hand: indexes are made and dropped here, and not rebuilt"
        )
    return change


def in_turn(steps: Sequence[Suggestion], take: Callable[[Change], Outcome]) -> Iterator[tuple[Suggestion, Outcome]]:
    """Each step and what became of it, as soon as that is known."""
    there = set[str]()
    for step in steps:
        change = change_of(step)
        if step.waits_for is not None and step.waits_for not in there:
            yield step, Outcome(change, "not now", f"it waits for {step.waits_for}, which is not there")
            continue
        outcome = take(change)
        there |= {step.name} if outcome.step in MADE else set()
        yield step, outcome
