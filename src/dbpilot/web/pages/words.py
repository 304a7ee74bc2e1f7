"""What pages say, in the reader's language: flat catalogues of whole sentences."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from dbpilot.web.pages.sentences import Part, Sentences

LANGUAGES: Final = {"en": "English", "ko": "한국어"}
FIRST: Final = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    language: str
    sentences: Mapping[str, str]
    library: Sentences
    """What the library says in English, in this language."""

    def __call__(self, key: str, **values: object) -> str:
        """The sentence, with these values in it.

        Raises:
            KeyError: no catalogue has this key.
        """
        return self.sentences[key].format(**values)

    def either(self, key: str, otherwise: str) -> str:
        """The sentence of a key that is made from data, or other words where nobody wrote one."""
        return self.sentences.get(key, otherwise)

    def parts(self, text: str) -> list[Part]:
        """A text of the library in this language as far as it is known, and English marked as such elsewhere."""
        return [Part(text, is_said=None)] if self.language == FIRST else self.library.parts(text)

    def said(self, text: str) -> str:
        """The same where nothing can be marked: in an attribute, in a chart."""
        return "".join(part.text for part in self.parts(text))


def all_words() -> dict[str, Words]:
    """Every language, by its code."""
    folder = files("dbpilot.web") / "locale"
    return {
        code: Words(code, json.loads((folder / f"{code}.json").read_text("utf-8")), Sentences.read(code))
        for code in LANGUAGES
    }


def language_of(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language that a reader asked for, chose once, or that the browser names first of those there are."""
    for chosen in (asked, kept):
        if chosen in LANGUAGES:
            return str(chosen)
    ranked = sorted(_accepted(accepted), reverse=True)
    return next((code for _, code in ranked if code in LANGUAGES), FIRST)


def _accepted(header: str) -> list[tuple[float, str]]:
    """What ``Accept-Language`` says, as weights and codes."""
    found = []
    for part in header.split(",")[:20]:
        code, _, weight = part.strip().partition(";q=")
        try:
            found.append((float(weight or 1), code.partition("-")[0].strip().lower()))
        except ValueError:  # a weight that is none
            continue
    return found
