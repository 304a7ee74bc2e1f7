"""Chance that repeats itself, and columns made of it."""

from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MICROS_PER_CENT = 10_000
US_PER_S = 1_000_000
PRICE_DIGITS, RATIO_DIGITS, DECIMALS = 18, 12, 6


class Subject(IntEnum):
    """What a stream of chance is for; a number given once never changes."""

    WALK = 1
    DAY_RANGE = 2
    VOLUME = 3
    POPULARITY = 4
    TEXT = 5
    NEWS = 6
    SIGNALS = 7
    SIGNAL_ORDERS = 8
    ACTIVITY = 9


def stream(seed: int, subject: Subject, block: int = 0) -> np.random.Generator:
    """A source of chance that no other subject or block shares: rows do not depend on which were made before them."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(subject), block))
    return np.random.Generator(np.random.Philox(sequence))


def pick(rng: np.random.Generator, below: int, size: int) -> Ints:
    """``size`` whole numbers from 0 to ``below`` - 1, all equally likely."""
    return (rng.random(size) * below).astype(np.int64)


def pick_weighted(rng: np.random.Generator, weights: Floats, size: int) -> Ints:
    """``size`` indices into ``weights``, each as likely as its weight says."""
    edges = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(edges, rng.random(size), side="right"), len(weights) - 1)


def zipf(count: int, exponent: float) -> Floats:
    """Weights that fall with the rank's power, summing to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def fill(weights: Floats, total: float, cap: float) -> Floats:
    """``total`` divided as ``weights`` say, none getting more than ``cap``: what is too much goes to the others.

    ``total`` is at most ``cap`` times their number.
    """
    shares = np.full(len(weights), float(cap))
    free = np.ones(len(weights), dtype=bool)
    while free.any():
        rest = total - cap * np.count_nonzero(~free)
        shares[free] = weights[free] / weights[free].sum() * rest
        full = free & (shares > cap)
        if not full.any():
            break
        shares[full] = cap
        free &= ~full
    return shares


def whole(shares: Floats, total: int, offset: float) -> Ints:
    """Whole numbers that sum to ``total``, each its share rounded up or down; ``offset`` (0 to 1) decides which way."""
    edges = np.cumsum(shares)
    edges[-1] = total
    up_to = np.concatenate([[0], np.floor(edges + offset).astype(np.int64)])
    return np.asarray(np.diff(up_to), dtype=np.int64)


def decimals(micros: Ints, digits: int = PRICE_DIGITS, missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """Exact decimals with six places out of counts of millionths; null where ``missing``."""
    words = np.empty((len(micros), 2), dtype="<i8")  # Arrow's 128 bits: the low word, and above it the sign
    words[:, 0] = micros
    words[:, 1] = micros >> 63
    valid = None if missing is None else pa.array(~missing).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(digits, DECIMALS), len(micros), [valid, pa.py_buffer(words)])


def cents(amounts: NDArray[Any]) -> pa.Array:
    """Prices out of whole cents."""
    return decimals(amounts.astype(np.int64) * MICROS_PER_CENT)


def instants(micros: Ints) -> pa.Array:
    """Points in time, UTC, out of microseconds since 1970."""
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))
