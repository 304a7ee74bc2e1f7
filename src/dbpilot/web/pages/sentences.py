"""What the library says in English, said in the reader's language.

The library makes its sentences where it finds something out, and always in English, so that programs can rely on
them. Here a sentence is recognised by its template, and its values are put into the other language's.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Self

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

HOLE: Final = re.compile(r"\{(\w+)(\*?)\}")
NUMBER: Final = re.compile(r"n\d*")
"""Holes of these names take numbers only; others take whatever is there."""
TAIL: Final = re.compile(r"[ ,;:(]")
"""A template that begins with one of these goes on with another, in a hole that is marked with a star."""
VALUE: Final = r"(?:(?!\.\s+[A-Z]).)+?"
"""What a hole may hold: whatever there is, up to where the next sentence begins."""
MOST_TAILS: Final = 3
JOINT: Final = re.compile(r"(?<=[.!?])\s+|[;:]\s+|\n")
"""What stands between sentences."""
CLOSE_JOINT: Final = re.compile(rf"{JOINT.pattern}|, (?:and )?")
"""The same, and what stands between clauses: too frequent in whatever else is said to be looked at there."""
ERROR: Final = re.compile(r"[A-Z]\w+ [0-9A-Z_]{3,}")
"""A class of errors with the database's code: the same in all languages."""
FULL_STOP: Final = "."
GAP: Final = "\0"
MOST_JOINTS: Final = 12
MOST_CHARACTERS: Final = 1000
"""Longer texts are shown as they are."""
MOST_KEPT: Final = 2000
DEEPEST: Final = 4
"""A phrase in a hole of a phrase is looked for so deep."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text, and whether it is in the reader's language; None for what has none: a name, a comma."""

    text: str
    is_said: bool | None


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence in both languages, with the same holes."""

    english: str
    """A regular expression, with a group for each hole."""
    said: str
    holes: tuple[tuple[str, str], ...]
    """Their names, and the stars of those that tails may stand in."""
    first: str | None
    """Its first word; None where it may begin with anything."""
    landmark: str
    """Its longest piece without holes: where a text lacks it, no expression has to be tried."""
    weight: int
    """How much of it is no hole: of two that fit, the one that says more is meant."""


class Sentences:
    """The catalogue of one language."""

    def __init__(self, templates: Mapping[str, str], words: Mapping[str, Mapping[str, str]]) -> None:
        tails = _either(english for english in templates if TAIL.match(english))
        choices = {hole: _either(meanings) for hole, meanings in words.items()}
        made = [_template(english, said, tails, choices) for english, said in templates.items()]
        self._by_first: dict[str | None, list[Template]] = {}
        for one in sorted(made, key=lambda one: -one.weight):
            self._by_first.setdefault(one.first, []).append(one)
        self._words = {hole: Sentences(meanings, {}) for hole, meanings in words.items()}
        self._compiled: dict[str, re.Pattern[str]] = {}  # as they are needed: few of them ever are
        self._kept: dict[str, str | None] = {}

    @classmethod
    def read(cls, language: str) -> Self:
        """The catalogue of a language; an empty one for the library's own."""
        path = files("dbpilot.web") / "locale" / f"sentences.{language}.json"
        catalogue = json.loads(path.read_text("utf-8")) if path.is_file() else {"sentences": {}, "words": {}}
        return cls(catalogue["sentences"], catalogue["words"])

    def of(self, text: str) -> str | None:
        """The text in the language; None where not all of it is known."""
        if len(text) > MOST_CHARACTERS:
            return None
        if text in self._kept:
            return self._kept.get(text)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        found = self._kept[text] = self._whole(text, 0)
        return found

    def parts(self, text: str) -> list[Part]:
        """The text in order: what is known of it in the language, and the rest as it is."""
        whole = self.of(text)
        if whole is not None:
            return [Part(whole, is_said=True)]
        pieces = list(self._pieces(text, JOINT, 0))
        return _together(pieces) if any(piece.is_said for piece in pieces) else [Part(text, is_said=False)]

    def _whole(self, text: str, depth: int) -> str | None:
        found = self._sentence(text, depth)
        if found is None and depth < DEEPEST:
            pieces = list(self._pieces(text, CLOSE_JOINT, depth))
            is_said = {piece.is_said for piece in pieces}
            if True in is_said and False not in is_said:
                found = "".join(piece.text for piece in pieces)
        return found

    def _sentence(self, text: str, depth: int) -> str | None:
        """The text as one sentence; a full stop is its own, or was put behind it."""
        found, stop = self._best(text), ""
        if text.endswith(FULL_STOP):
            without = self._best(text.removesuffix(FULL_STOP))
            if without and (found is None or _told(*without) >= _told(*found)):
                found, stop = without, FULL_STOP
        return None if found is None else self._filled(*found, depth) + stop

    def _filled(self, template: Template, match: re.Match[str], depth: int) -> str:
        holes = zip(template.holes, match.groups(), strict=True)
        values = {hole: self._value(hole, value, depth) for (hole, _), value in holes}
        return HOLE.sub(lambda hole: values[hole[1]], template.said)

    def _best(self, text: str) -> tuple[Template, re.Match[str]] | None:
        fitting = (self._fitting(first, text) for first in (text.split(" ", 1)[0], None))
        return max(filter(None, fitting), key=lambda found: _told(*found), default=None)

    def _fitting(self, first: str | None, text: str) -> tuple[Template, re.Match[str]] | None:
        for template in self._by_first.get(first, ()):
            match = self._matched(template, text) if template.landmark in text else None
            if match:
                return template, match
        return None

    def _matched(self, template: Template, text: str) -> re.Match[str] | None:
        expression = self._compiled.get(template.english)
        if expression is None:
            expression = self._compiled[template.english] = re.compile(template.english, re.DOTALL)
        return expression.fullmatch(text)

    def _value(self, hole: str, value: str, depth: int) -> str:
        """What a hole holds: a word with a meaning there, a phrase, or what is the same in all languages."""
        if hole in self._words:
            return self._words[hole].of(value) or value
        if depth >= DEEPEST or " " not in value:
            return value
        return self._tailed(value, depth + 1) if TAIL.match(value) else self._whole(value, depth + 1) or value

    def _tailed(self, value: str, depth: int) -> str:
        """What goes on with a sentence, in as few pieces as can be."""
        for end in range(len(value), 0, -1):
            found = self._best(value[:end]) if end == len(value) or TAIL.match(value[end]) else None
            if found is not None:
                return self._filled(*found, depth) + self._tailed(value[end:], depth)
        return value

    def _pieces(self, text: str, joint: re.Pattern[str], depth: int) -> Iterator[Part]:
        """The text cut where sentences meet, into pieces as long as can be."""
        joints = list(joint.finditer(text))
        if not 0 < len(joints) <= MOST_JOINTS:
            yield Part(text, is_said=False)
            return
        begins, ends = [0, *(one.end() for one in joints)], [*(one.start() for one in joints), len(text)]
        number = 0
        while number < len(begins):
            last, piece = self._longest(text, begins[number], ends[number:], depth)
            yield piece
            number += last + 1
            if number < len(begins):
                yield Part(_joint(joints[number - 1][0], piece), is_said=None)

    def _longest(self, text: str, begin: int, ends: list[int], depth: int) -> tuple[int, Part]:
        """The longest sentence that begins here, and which of the ends is its."""
        for number in range(len(ends) - 1, -1, -1):
            said = self._sentence(text[begin : ends[number]], depth)
            if said is not None:
                return number, Part(said, is_said=True)
        piece = text[begin : ends[0]]
        return 0, Part(piece, is_said=False if " " in piece and not ERROR.fullmatch(piece) else None)


def _told(template: Template, match: re.Match[str]) -> int:
    """How much of a text is the template's or its tails', and not in its holes."""
    holes = zip(template.holes, match.groups(), strict=True)
    return template.weight + sum(len(value) for (_, star), value in holes if star)


def _joint(joint: str, before: Part) -> str:
    """Whole sentences are not joined by semicolons."""
    return ". " if before.is_said and joint.startswith(";") else joint


def _together(parts: list[Part]) -> list[Part]:
    """Neighbours of one language as one; what has none of its own goes with what is before it."""
    kept: list[Part] = []
    for part in parts:
        if kept and part.is_said in (None, kept[-1].is_said):
            kept[-1] = Part(kept[-1].text + part.text, kept[-1].is_said)
        else:
            kept.append(Part(part.text, part.is_said is not False))
    return kept


def _template(english: str, said: str, tails: str, choices: Mapping[str, str]) -> Template:
    literals, holes = HOLE.sub(GAP, english).split(GAP), HOLE.findall(english)
    values = [_values(name, choices, tails if star else None) for name, star in holes]
    first, blank, _ = literals[0].partition(" ")
    return Template(
        "".join(re.escape(literal) + value for literal, value in zip(literals, [*values, ""], strict=True)),
        said,
        tuple(holes),
        first if blank or not holes else None,
        max(literals, key=len),
        sum(map(len, literals)),
    )


def _values(name: str, choices: Mapping[str, str], tails: str | None) -> str:
    """What may stand in a hole, as a group."""
    if tails is not None:
        return f"((?:{tails}){{0,{MOST_TAILS}}}?)"
    return f"({choices.get(name, '[0-9.,]+' if NUMBER.fullmatch(name) else VALUE)})"


def _either(templates: Iterable[str]) -> str:
    """An expression for any of these; their holes are no groups."""
    return "|".join(VALUE.join(map(re.escape, HOLE.sub(GAP, one).split(GAP))) for one in templates)


@pass_context
def sentence(context: Context, text: object) -> Markup:
    """What the library says, in the page's language; marked as English where only that is known."""
    english = Markup('<span lang="en">{}</span>')
    parts = context["t"].parts(str(text))
    return Markup().join(english.format(part.text) if part.is_said is False else escape(part.text) for part in parts)


@pass_context
def said(context: Context, text: object) -> str:
    """The same where nothing can be marked."""
    found: str = context["t"].said(str(text))
    return found
