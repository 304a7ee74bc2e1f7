"""Traces as files: CSV that somebody wrote, or what the API recorded of pools."""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from dbpilot.errors import ConfigError
from dbpilot.pool.sample import PoolSample
from dbpilot.pool.simulation import Request
from dbpilot.reports.pool import PoolHistory, ProcessSample

HEADER: Final = "at_s,takes_s"
STDIN: Final = "-"
LEAST_S: Final = 1e-6
"""What took no time by a coarse clock took this: how many times slower it becomes can be told only of some time."""
MAX_LENGTH_S: Final = 7 * 86_400
"""The policy looks at the pool every second of a trace; a week of that takes minutes."""
MAX_REQUESTS: Final = 5_000_000
LATE_S: Final = 60
"""A trace that begins later than this does not count from its zero, but from some 1970 or midnight."""
SHOWN: Final = 40
EXPECTED: Final = f"a trace is CSV with the header {HEADER}, or what GET connection-pool/metrics answers"


class UnusableTrace(ConfigError):
    """A trace cannot be replayed; names the file, the line, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their time, and what has to be said about how they were made of the file."""

    requests: list[Request]
    notes: list[str]


def read_trace(path: str, process: str | None = None) -> Trace:
    """The requests that the file tells of, as seconds since the beginning; ``-`` is standard input.

    Of recorded pools those of one ``process``, or of all, added up.

    Raises:
        UnusableTrace: it cannot be read, is no trace, or is broken; says in which line.
    """
    name = "<stdin>" if path == STDIN else path
    text = _text(name, _content(path, name))
    if text.lstrip().startswith("{"):
        return _of_recorded(name, text, process)
    if process is not None:
        raise UnusableTrace(f"{name} is CSV, which tells of no processes: leave out --process")
    return _of_csv(name, text)


def _content(path: str, name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise UnusableTrace(f"{name} cannot be read: {error.strerror or error}") from None


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableTrace(f"{name}:{_line_at(content, error.start)}: this is no text; {EXPECTED}") from None
    if "\0" in text:
        line = _line_at(content, content.index(b"\0"))
        raise UnusableTrace(f"{name}:{line}: this is no text; {EXPECTED}")
    if not text.strip():
        raise UnusableTrace(f"{name}:1: the file is empty; {EXPECTED}")
    return text


def _line_at(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _of_csv(name: str, text: str) -> Trace:
    header, *lines = text.split("\n")
    if header.strip() != HEADER:
        raise UnusableTrace(f"{name}:1: the header is {_short(header)} instead of {HEADER}; {EXPECTED}")
    requests = list(_requests(name, lines))
    notes = [] if text.endswith("\n") else ["the last line has no end: if the file was cut, so was its last number"]
    return _from_first(name, requests, notes)


def _requests(name: str, lines: list[str]) -> Iterator[Request]:
    before_s = 0.0
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        request = _request(where, line.strip(), is_last=number == len(lines) + 1)
        if request.at_s < before_s:
            raise UnusableTrace(f"{where}: at_s is {request.at_s:g} after {before_s:g}; times must not run backwards")
        before_s = request.at_s
        yield request


def _request(where: str, line: str, *, is_last: bool) -> Request:
    values = line.split(",")
    if len(values) != 2:
        cut = "; was the file cut?" if is_last else ""
        raise UnusableTrace(f"{where}: {_short(line)} is not two numbers, {HEADER}{cut}")
    return Request(*(_number(where, name, value) for name, value in zip(HEADER.split(","), values, strict=True)))


def _number(where: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UnusableTrace(f"{where}: {name} is {_short(value)}, which is no number") from None
    if not 0 <= number < math.inf:
        raise UnusableTrace(f"{where}: {name} is {_short(value)}; it has to be a number of seconds, 0 or more")
    return number


def _of_recorded(name: str, text: str, process: str | None) -> Trace:
    history = _history(name, text)
    known = sorted({one.process for one in history.samples})
    if process is not None and process not in known:
        raise UnusableTrace(f"{name} has no process '{process}'; it has {', '.join(known) or 'none'}")
    samples = [one for one in history.samples if process in (None, one.process)]
    _refuse_too_many(name, sum(one.sample.checkouts for one in samples))
    requests = sorted((request for one in samples for request in _spread(name, one)), key=lambda one: one.at_s)
    notes = [f"made of {len(samples)} recorded samples: their checkouts are spread evenly, each held as long as all"]
    if process is None and len(known) > 1:
        notes.append(f"the pools of {len(known)} processes are added up into one; --process picks one of them")
    return _from_first(name, requests, notes)


def _history(name: str, text: str) -> PoolHistory:
    try:
        return TypeAdapter(PoolHistory).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnusableTrace(f"{name}: {where + ': ' if where else ''}{first['msg']}; {EXPECTED}") from None


def _spread(name: str, recorded: ProcessSample) -> Iterator[Request]:
    sample = recorded.sample
    held_s, began_s = _held_s(sample), sample.at.timestamp() - sample.over_s
    if not (0 < sample.over_s < math.inf and 0 <= held_s < math.inf):
        raise UnusableTrace(f"{name}: the sample of {sample.at.isoformat()} lasted or was held for no possible time")
    for number in range(sample.checkouts):
        yield Request(began_s + (number + 0.5) / sample.checkouts * sample.over_s, held_s)


def _held_s(sample: PoolSample) -> float:
    """How long each connection was held; by Little's law where it was not seen."""
    if sample.hold_s is not None:
        return sample.hold_s
    return sample.in_use * sample.over_s / max(1, sample.checkouts)


def _from_first(name: str, requests: list[Request], notes: list[str]) -> Trace:
    """The requests as a trace that begins at zero, or late with the second of the first."""
    if not requests:
        raise UnusableTrace(f"{name} holds no request")
    _refuse_too_many(name, len(requests))
    began_s = math.floor(requests[0].at_s) if requests[0].at_s > LATE_S else 0
    if requests[-1].at_s - began_s > MAX_LENGTH_S:
        raise UnusableTrace(f"{name} is longer than {MAX_LENGTH_S / 86_400:.0f} days: replay a part of it")
    if began_s > 0:
        notes = [*notes, f"times are counted from {began_s} s on, where the first request comes"]
    return Trace([Request(one.at_s - began_s, max(one.takes_s, LEAST_S)) for one in requests], notes)


def _refuse_too_many(name: str, requests: int) -> None:
    if requests > MAX_REQUESTS:
        raise UnusableTrace(f"{name} has {requests:,} requests, more than {MAX_REQUESTS:,}: replay a part of it")


def as_csv(requests: Iterable[Request]) -> Iterator[str]:
    """The lines of a file that :func:`read_trace` reads, to the microsecond."""
    yield HEADER
    for request in requests:
        yield f"{request.at_s:.6f},{request.takes_s:.6f}"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
