from __future__ import annotations

import pytest

from diptych.client.expressions import parse_filter
from diptych.client.filters import field, fields_message

NO_VALUE = 'expected a value: a string in quotes, a number, true, false or timestamp("..."), '
NO_COMPARISON = "expected a comparison (==, !=, <, <=, >, >=, in, not in, between, contains), "
NO_NAME = "expected the name of a field, 'not' or '(', "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", NO_NAME + "at the end (character 1)"),
        ("price >=", NO_VALUE + "at the end (character 9)"),
        ("price >= )", NO_VALUE + "at ')' (character 10)"),
        ("price = 3", "cannot be read, at '= 3' (character 7)"),
        ("price 3", NO_COMPARISON + "at '3' (character 7)"),
        ("a == 1 b == 2", "expected 'and', 'or' or the end, at 'b == 2' (character 8)"),
        ("(a == 1", "expected ')', at the end (character 8)"),
        ("a in (1, 2", "expected ')', at the end (character 11)"),
        ("a in 1", "expected '(', at '1' (character 6)"),
        ("a not 1", NO_COMPARISON + "at '1' (character 7)"),
        ("a between 1 or 2", "expected 'and', at 'or 2' (character 13)"),
        ("and == 1", NO_NAME + "at 'and == 1' (character 1)"),
        ("within(a, 1, 2)", "expected ',', at ')' (character 15)"),
        ("within(a, 1, 'b', 3)", "expected a number, at \"'b', 3)\" (character 14)"),
        ("startswith(a, 1)", "expected a string in quotes, at '1)' (character 15)"),
        ("t < timestamp('soon')", 'expected a time in ISO 8601, as "2026-01-31T12:00:00Z", at "\'soon\')"'),
        ("a == 'open", 'cannot be read, at "\'open" (character 6)'),
        ("a == 1x", "cannot be read, at '1x' (character 6)"),
        ("not " * 60 + "exists(a)", "nested more than 50 levels deep"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="filter") as caught:
        parse_filter(text)
    assert problem in str(caught.value)
    assert repr(text) in str(caught.value)


def test_expressions_bind_as_python_s_do() -> None:
    a, b, c = (field(name).exists() for name in "abc")
    text = "exists(a) or exists(b) and not exists(c) or exists(a)"
    assert parse_filter(text).message == (a | (b & ~c) | a).message
    assert parse_filter("(exists(a) or exists(b)) and exists(c)").message == ((a | b) & c).message


def test_what_is_joined_the_same_way_stays_flat() -> None:
    joined = field("a").exists()
    for _ in range(40):
        joined = joined & field("a").exists()
    assert len(joined.message.all_of.filters) == 41


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('`two words` == "x"', field("two words") == "x"),
        (r"""a == "say \"so\" \\" """, field("a") == 'say "so" \\'),
        ("a-b.c == -1", field("a-b.c") == -1),
        ("a == 1e3", field("a") == 1000.0),
        ("exists == 1", field("exists") == 1),
        ("a == +.5", field("a") == 0.5),
    ],
)
def test_names_and_values_may_be_written_freely(text: str, same: object) -> None:
    assert repr(parse_filter(text)) == repr(same)


def test_a_filter_has_no_truth() -> None:
    one = field("a") > 1
    for judge in (lambda: 1 < field("a") < 5, lambda: one and one, lambda: not one):
        with pytest.raises(TypeError, match="neither true nor false"):
            judge()


def test_values_that_cannot_be_sent_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="the value that field 'a' is compared with is of type NoneType"):
        assert field("a") == None  # noqa: E711 # what is refused
    with pytest.raises(ValueError, match="one_of takes a list"):
        field("a").one_of("text")
    with pytest.raises(ValueError, match=r"the type of field 'a' \('int'\) must be one of string, integer, float"):
        fields_message({"a": "int"})
