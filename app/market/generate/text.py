"""News that says nothing: titles, summaries and bodies of lifelike length out of a small vocabulary.

What is put together row by row comes from a pool made once, so that millions of bodies cost little more than copying.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.market.generate.draws import Ints, Subject, pick, stream

POOL: Final = 2048
"""Headlines and paragraphs per language."""

ENGLISH: Final = {
    "subject": "The company|Management|The board|One analyst|A large investor|A supplier|The regulator|"
    "The chief executive|The trading desk|A rival|The finance team|A key customer",
    "verb": "expects|reports|reviews|confirms|postpones|raises|lowers|questions|welcomes|rejects|discusses|publishes",
    "object": "quarterly revenue|a share buyback|the outlook for the year|new capacity|its pricing|a supply agreement|"
    "operating margins|a round of hiring|the planned merger|inventory levels|capital spending|a product recall",
    "tail": "after a strong quarter|despite weaker demand|ahead of the annual meeting|as costs ease|on higher volumes|"
    "amid uncertainty over rates|for the second time this year|in line with its plan|before the holidays|"
    "while competitors hesitate",
}
KOREAN: Final = {
    "subject": "회사는|경영진은|이사회는|분석가들은|투자자들은|협력사는|규제 당국은|최고경영자는|거래자들은|경쟁사는",
    "object": "분기 매출을|자사주 매입을|연간 전망을|신규 설비를|가격 정책을|공급 계약을|영업이익률을|채용 계획을|"
    "합병 계획을|재고 수준을",
    "tail": "수요 둔화에도|강한 실적에 힘입어|주주총회를 앞두고|비용이 줄면서|거래량 증가 속에|금리 불확실성 속에|"
    "올해 두 번째로",
    "verb": "발표했다|검토한다|확인했다|연기했다|상향했다|하향했다|논의했다|공개했다",
}
LANGUAGES: Final = (ENGLISH, KOREAN)
"""Phrases by their place in the sentence; the places follow each other in the order of the sentence."""


@dataclass(frozen=True)
class Pool:
    """Pieces of text, those of the first language before those of the second."""

    headlines: pa.Array
    paragraphs: pa.Array
    mean_paragraph_bytes: float


def make_pool(seed: int) -> Pool:
    """The pieces that all news of this seed are made of."""
    headlines: list[str] = []
    paragraphs: list[str] = []
    for number, language in enumerate(LANGUAGES):
        rng = stream(seed, Subject.TEXT, number)
        headlines += list(dict.fromkeys(_sentences(rng, language, 2 * POOL)))[:POOL]
        sentences = _sentences(rng, language, 3 * POOL)
        paragraphs += [" ".join(f"{part}." for part in sentences[first::POOL]) for first in range(POOL)]
    lengths = [len(paragraph.encode()) for paragraph in paragraphs]
    return Pool(pa.array(headlines), pa.array(paragraphs), sum(lengths) / len(lengths))


def _sentences(rng: np.random.Generator, language: dict[str, str], count: int) -> list[str]:
    choices = [phrases.split("|") for phrases in language.values()]
    picked = [[phrases[index] for index in pick(rng, len(phrases), count)] for phrases in choices]
    return [" ".join(parts) for parts in zip(*picked, strict=True)]


def joined(*parts: Any) -> pa.Array:
    """Row by row, the parts one after the other; a part is a column or one text for all rows."""
    return pc.binary_join_element_wise(*parts, "")


def titles(pool: Pool, tickers: pa.Array, languages: Ints, chosen: Ints) -> pa.Array:
    """A headline of the row's language about the row's symbol."""
    return joined(tickers, ": ", pool.headlines.take(pa.array(languages * POOL + chosen)))


def summaries(pool: Pool, languages: Ints, chosen: Ints) -> pa.Array:
    """A paragraph of the row's language."""
    return pool.paragraphs.take(pa.array(languages * POOL + chosen))


def bodies(pool: Pool, title: pa.Array, languages: Ints, lengths: Ints, chosen: Ints) -> pa.Array:
    """HTML of as many paragraphs per row as ``lengths`` says; ``chosen`` has one number for each of them."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    paragraphs = pool.paragraphs.take(pa.array(np.repeat(languages, lengths) * POOL + chosen))
    text = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), paragraphs), "</p>\n<p>")
    return joined("<article>\n<h1>", title, "</h1>\n<p>", text, "</p>\n</article>\n")
