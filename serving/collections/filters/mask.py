"""A filter as a test of columns: per row of the index, whether it holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.column import ColumnView
from serving.collections.columns.columns import ColumnsView, FieldView, to_microseconds
from serving.collections.columns.lists import ListView
from serving.collections.filters.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    FieldCondition,
    GeoRadius,
    Negation,
    OneOf,
    Prefix,
    Range,
)
from serving.collections.filters.fields import check_condition
from serving.collections.filters.geometry import within_radius
from serving.collections.types import FieldType, MetadataValue

__all__ = ["rows_matching"]

Mask = NDArray[np.bool_]
Test = Callable[[NDArray[Any]], Mask]


def rows_matching(condition: Condition, columns: ColumnsView) -> tuple[Mask, Mask]:
    """Says which rows a filter holds for.

    Args:
        condition: The filter.
        columns: As of one commit.

    Returns:
        A mask of the base's rows and one of the tail's, dead rows included.

    Raises:
        InvalidInput: The columns cannot answer it.
        InputTooLarge: It is too deep or too long.
    """
    check_condition(condition, columns.definitions)
    return _matching(condition, columns)


def _matching(condition: Condition, columns: ColumnsView) -> tuple[Mask, Mask]:
    match condition:
        case Negation():
            base, tail = _matching(condition.condition, columns)
            return ~base, ~tail
        case AllOf() | AnyOf():
            join = np.logical_and if isinstance(condition, AllOf) else np.logical_or
            bases, tails = zip(*(_matching(part, columns) for part in condition.conditions), strict=True)
            return reduce(join, bases), reduce(join, tails)
        case _:
            field = columns.fields[condition.field]
            holds = _column_test(condition, field)
            return holds(field.base), holds(field.tail)


def _column_test(condition: FieldCondition, field: FieldView) -> Callable[[ColumnView], Mask]:
    if isinstance(condition, Exists):
        return ColumnView.exists
    test = _value_test(condition, field)

    def holds(column: ColumnView) -> Mask:
        return column.contains(test) if isinstance(column, ListView) else column.test(test)

    return holds


def _value_test(condition: OneOf | Range | Prefix | GeoRadius, field: FieldView) -> Test:
    match condition:
        case OneOf(values=values) if field.type in (FieldType.STRING, FieldType.STRING_LIST):
            return _one_of_codes(field.dictionary.find(values))
        case OneOf(values=values):
            return _one_of(np.array([_stored(value) for value in values], dtype=_dtype(field.type)))
        case Prefix(prefix=prefix):
            return _one_of_codes(field.dictionary.find_prefix(prefix))
        case Range():
            return _between(condition, field.type)
        case GeoRadius(centre=centre, radius_m=radius_m):
            return lambda places: within_radius(places[:, 0], places[:, 1], centre, radius_m)


def _one_of(values: NDArray[Any]) -> Test:
    if len(values) == 1:
        return lambda column: np.equal(column, values[0])
    return lambda column: np.isin(column, values)


def _one_of_codes(codes: NDArray[np.int64]) -> Test:
    if len(codes) <= 1:
        return _one_of(codes if len(codes) else np.array([-1]))
    # A table of all codes up to the highest that is wanted: one look-up a row, however many are wanted.
    wanted = np.zeros(int(codes.max()) + 2, dtype=np.bool_)
    wanted[codes] = True
    return lambda column: wanted[np.minimum(column, len(wanted) - 1)]


def _between(condition: Range, kind: FieldType) -> Test:
    dtype = _dtype(kind)
    tests: list[tuple[Callable[..., Mask], Any]] = [
        (compare, dtype(_stored(bound)))
        for compare, bound in (
            (np.greater_equal, condition.greater_or_equal),
            (np.greater, condition.greater),
            (np.less_equal, condition.less_or_equal),
            (np.less, condition.less),
        )
        if bound is not None
    ]
    return lambda column: reduce(np.logical_and, [compare(column, bound) for compare, bound in tests])


def _stored(value: MetadataValue) -> Any:
    return to_microseconds(value) if isinstance(value, datetime) else value


def _dtype(kind: FieldType) -> Any:
    return {FieldType.BOOL: np.bool_, FieldType.FLOAT: np.float64}.get(kind, np.int64)
