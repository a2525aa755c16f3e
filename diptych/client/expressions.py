"""Filters as a line of text: `price >= 10 and tag in ("a", "b")`.

    filter    = all ("or" all)*
    all       = one ("and" one)*
    one       = "not" one | "(" filter ")" | condition
    condition = NAME ("==" | "!=" | "<" | "<=" | ">" | ">=") value
              | NAME ["not"] "in" "(" value ("," value)* ")"
              | NAME "between" value "and" value
              | NAME "contains" value
              | "exists" "(" NAME ")"
              | "startswith" "(" NAME "," STRING ")"
              | "within" "(" NAME "," LATITUDE "," LONGITUDE "," METRES ")"
    value     = STRING | NUMBER | "true" | "false" | "timestamp" "(" STRING ")"

Strings stand in single or double quotes; names that are not made of letters, digits, `_`, `.` and `-`, in backquotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from diptych.client.filters import Field, Filter, field
from diptych.client.types import GeoPoint, MetadataValue

__all__ = ["parse_filter"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
        |(?P<quoted>`[^`]+`)
        |(?P<word>[^\W\d][\w.-]*)
        |(?P<sign>==|!=|<=|>=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "in", "between", "contains", "true", "false"})
_DEEPEST = 50
_COMPARISONS: dict[str, Callable[[Field, Any], Filter]] = {
    "==": lambda one, value: one == value,
    "!=": lambda one, value: one != value,
    "<": lambda one, value: one < value,
    "<=": lambda one, value: one <= value,
    ">": lambda one, value: one > value,
    ">=": lambda one, value: one >= value,
    "contains": lambda one, value: one.contains(value),
}


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def parse_filter(text: str) -> Filter:
    """Reads a filter.

    Args:
        text: As above.

    Returns:
        The filter.

    Raises:
        ValueError: It is none; the message names the place.
    """
    parser = _Parser(text)
    found = parser.any_of()
    parser.end()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def any_of(self) -> Filter:
        found = self._all_of()
        while self._take("or"):
            found = found | self._all_of()
        return found

    def end(self) -> None:
        if self._token.kind != "end":
            raise self._error("expected 'and', 'or' or the end")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _all_of(self) -> Filter:
        found = self._one()
        while self._take("and"):
            found = found & self._one()
        return found

    def _one(self) -> Filter:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"nested more than {_DEEPEST} levels deep")
        if self._take("not"):
            found = ~self._one()
        elif self._take("("):
            found = self.any_of()
            self._expect(")")
        else:
            found = self._condition()
        self._depth -= 1
        return found

    def _condition(self) -> Filter:
        calls = {"exists": self._exists, "startswith": self._startswith, "within": self._within}
        following = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        if self._token.kind == "word" and self._token.text in calls and following.text == "(":
            call = calls[self._token.text]
            self._next += 2
            found = call()
            self._expect(")")
            return found
        return self._comparison(self._name())

    def _comparison(self, one: Field) -> Filter:
        for sign, compare in _COMPARISONS.items():
            if self._take(sign):
                return compare(one, self._value())
        if self._take("between"):
            least = self._value()
            self._expect("and")
            return one.between(least, self._value())
        negated = self._take("not")
        if not self._take("in"):
            raise self._error("expected a comparison (==, !=, <, <=, >, >=, in, not in, between, contains)")
        return ~self._one_of(one) if negated else self._one_of(one)

    def _one_of(self, one: Field) -> Filter:
        self._expect("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")")
        return one.one_of(values)

    def _exists(self) -> Filter:
        return self._name().exists()

    def _startswith(self) -> Filter:
        one = self._name()
        self._expect(",")
        return one.startswith(self._string())

    def _within(self) -> Filter:
        one, numbers = self._name(), []
        for _ in range(3):
            self._expect(",")
            numbers.append(float(self._kind("number", "a number")))
        return one.within(GeoPoint(numbers[0], numbers[1]), numbers[2])

    def _name(self) -> Field:
        token = self._token
        if token.kind == "quoted":
            self._next += 1
            return field(token.text[1:-1])
        if token.kind != "word" or token.text in _WORDS:
            raise self._error("expected the name of a field, 'not' or '('")
        self._next += 1
        return field(token.text)

    def _value(self) -> MetadataValue:
        if self._token.kind == "string":
            return self._string()
        if self._token.kind == "number":
            return _number(self._kind("number", "a number"))
        if self._take("timestamp"):
            self._expect("(")
            moment = self._moment()
            self._expect(")")
            return moment
        for word, truth in (("true", True), ("false", False)):
            if self._take(word):
                return truth
        raise self._error('expected a value: a string in quotes, a number, true, false or timestamp("...")')

    def _moment(self) -> datetime:
        place = self._next
        try:
            moment = datetime.fromisoformat(self._string())
        except ValueError:
            self._next = place
            raise self._error('expected a time in ISO 8601, as "2026-01-31T12:00:00Z"') from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _string(self) -> str:
        return re.sub(r"\\(.)", r"\1", self._kind("string", "a string in quotes")[1:-1], flags=re.DOTALL)

    def _kind(self, kind: str, words: str) -> str:
        token = self._token
        if token.kind != kind:
            raise self._error(f"expected {words}")
        self._next += 1
        return token.text

    def _take(self, text: str) -> bool:
        if self._token.kind in ("word", "sign") and self._token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"expected {text!r}")

    def _split(self) -> list[_Token]:
        tokens, place = [], 0
        end = len(self._text.rstrip())
        while place < end:
            found = _TOKEN.match(self._text, place)
            if found is None:
                start = place + len(self._text[place:]) - len(self._text[place:].lstrip())
                raise _error_at(self._text, start, "cannot be read")
            kind = str(found.lastgroup)
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            place = found.end()
        return [*tokens, _Token("end", "", end)]

    def _error(self, problem: str) -> ValueError:
        return _error_at(self._text, self._token.place, problem)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _error_at(text: str, place: int, problem: str) -> ValueError:
    rest = text[place:].strip()
    found = f"at {rest!r:.40}" if rest else "at the end"
    return ValueError(f"filter {text!r}: {problem}, {found} (character {place + 1})")
