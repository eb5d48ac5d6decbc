"""Which found column a missing one was probably renamed to, judged by the names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import product

THRESHOLD = 0.7  # our choice: "spend" to "spend_usd" (0.77) is a hint, "age" to "customer_age" (0.43) is not
LEAD = 0.1  # a candidate this close to the best one makes the choice ambiguous
_ABBREVIATION = 0.9  # a shortened word is good evidence, an equal one is better
_TYPO = 0.8
_TYPO_LENGTH = 4  # one letter of difference in "age" or "max" makes another word


def likely_renames(missing: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """Return expected name → found name for the renames that the names make plain.

    `found` are the columns that nobody expects. One to one, independent of the order given, and without
    a guess where two candidates are about equally alike.

    Source: words compared one by one (equal, abbreviated, or one typing error apart by difflib), weighted
    by their length; our choice, because whole-name similarity takes `min_temperature` for `max_temperature`.

    Example:
        >>> likely_renames(["customer_age"], ["cust_age", "cust_id"])
        {'customer_age': 'cust_age'}
        >>> likely_renames(["spend"], ["spend_usd", "spend_eur"])
        {}
    """
    wanted, candidates = sorted(set(missing)), sorted(set(found) - set(missing))
    scores = {(want, have): likeness(want, have) for want in wanted for have in candidates}
    hints = {}
    for want in wanted:
        have = _clear_winner({name: scores[want, name] for name in candidates})
        if have and _clear_winner({name: scores[name, have] for name in wanted}) == want:
            hints[want] = have
    return hints


def likeness(one: str, other: str) -> float:
    """Return how alike two column names are, from 0 to 1; 1 means equal but for case and separators.

    Example:
        >>> likeness("CustomerAge", "customer_age"), likeness("min_temperature", "max_temperature") < 0.7
        (1.0, True)
    """
    first, second = _words(one), _words(other)
    if not first or not second:
        return 0.0
    if "".join(first) == "".join(second):
        return 1.0
    score = _word_score(first, second)
    short, long = sorted(("".join(first), "".join(second)), key=len)
    if len(first) != len(second) and 2 * len(short) >= len(long):  # words run together: custage
        score = max(score, _word_likeness(short, long))
    return score


def _clear_winner(scores: dict[str, float]) -> str | None:
    """Return the name that is alike enough and ahead of all others, if there is one."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    if not ranked or ranked[0][1] < THRESHOLD:
        return None
    if len(ranked) > 1 and ranked[1][1] > ranked[0][1] - LEAD and not ranked[0][1] == 1.0 > ranked[1][1]:
        return None
    return ranked[0][0]


def _words(name: str) -> list[str]:
    """Return the words and numbers of a column name, in lower case."""
    spaced = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", str(name))
    return [word.lower() for word in re.findall(r"[^\W\d_]+|\d+", spaced)]


def _word_score(first: list[str], second: list[str]) -> float:
    """Return the share of letters that stand in words with a partner, whatever the order of words.

    Words without a partner on both sides contradict each other (min and max): that halves the score.
    """
    pairs = sorted(
        ((_word_likeness(*pair), *pair) for pair in product(first, second)), key=lambda item: (-item[0], item)
    )
    left, right, matched = list(first), list(second), 0.0
    for alike, one, other in pairs:
        if alike and one in left and other in right:
            matched += alike * (len(one) + len(other))
            left.remove(one)
            right.remove(other)
    share = matched / sum(len(word) for word in [*first, *second])
    return share / 2 if left and right else share


def _word_likeness(one: str, other: str) -> float:
    short, long = sorted((one, other), key=len)
    if short == long:
        return 1.0
    if short.isdigit() or long.isdigit():
        return 0.0  # spend_2 is not spend_3
    if _abbreviates(short, long):
        return _ABBREVIATION
    alike = SequenceMatcher(None, short, long).ratio()
    one_typo = len(short) >= _TYPO_LENGTH and len(long) - len(short) <= 1 and _differ_by_one(short, long)
    return max(_TYPO, alike) if one_typo else 0.0


def _abbreviates(short: str, long: str) -> bool:
    """Return whether `short` is `long` with letters left out: cust, cstmr, qty, amt."""
    if len(short) < 2 or short[0] != long[0]:
        return False
    letters = iter(long)
    return all(letter in letters for letter in short)


def _differ_by_one(short: str, long: str) -> bool:
    """Return whether one letter was changed, added, or swapped with its neighbour."""
    start = 0
    while start < len(short) and short[start] == long[start]:
        start += 1
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    if short[start + 1 :] == long[start + 1 :]:
        return True
    return (
        short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    )
