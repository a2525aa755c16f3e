"""Declared fields: what may be declared, what a record may bring for them, and what a filter may ask of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from serving.collections.config import MAX_FIELD_NAME_BYTES, MAX_FIELDS
from serving.collections.filters.conditions import (
    Condition,
    Exists,
    FieldCondition,
    GeoRadius,
    OneOf,
    Prefix,
    Range,
    check_size,
    field_conditions,
)
from serving.collections.types import FieldDefinition, FieldType, GeoPoint, MetadataValue
from serving.errors import FailedPrecondition, InvalidInput

__all__ = ["check_condition", "check_fields", "contradiction", "fits", "new_fields"]

_ORDERED = frozenset({FieldType.INTEGER, FieldType.FLOAT, FieldType.TIMESTAMP})
_KINDS: dict[type, FieldType] = {
    bool: FieldType.BOOL,
    str: FieldType.STRING,
    int: FieldType.INTEGER,
    float: FieldType.FLOAT,
    datetime: FieldType.TIMESTAMP,
    GeoPoint: FieldType.GEO_POINT,
    tuple: FieldType.STRING_LIST,
    list: FieldType.STRING_LIST,
}
_INT64 = range(-(2**63), 2**63)
_WORDS = {
    FieldType.STRING: "a string",
    FieldType.INTEGER: "an integer",
    FieldType.FLOAT: "a float",
    FieldType.BOOL: "a bool",
    FieldType.TIMESTAMP: "a timestamp",
    FieldType.STRING_LIST: "a list of strings",
    FieldType.GEO_POINT: "a geo point",
}


def check_fields(fields: Sequence[FieldDefinition]) -> None:
    """Refuses fields that cannot be declared.

    Args:
        fields: All of a collection's.

    Raises:
        InvalidInput: There are too many, a name stands twice, or it cannot be a metadata key.
    """
    if len(fields) > MAX_FIELDS:
        raise InvalidInput(f"{len(fields)} fields, more than {MAX_FIELDS}; declare only those you filter by")
    names = set()
    for field in fields:
        size_bytes = len(field.name.encode("utf-8", "surrogatepass"))
        if not 1 <= size_bytes <= MAX_FIELD_NAME_BYTES or not field.name.isprintable():
            raise InvalidInput(
                f"field name {field.name!r:.80} must be 1 to {MAX_FIELD_NAME_BYTES} bytes of printable characters"
            )
        if field.name in names:
            raise InvalidInput(f"field {field.name!r} is declared twice", field=field.name)
        names.add(field.name)


def new_fields(declared: Iterable[FieldDefinition], wanted: Iterable[FieldDefinition]) -> list[FieldDefinition]:
    """Returns which fields have to be declared anew.

    Args:
        declared: Those that are.
        wanted: Those that shall be.

    Returns:
        Those that are not declared yet.

    Raises:
        FailedPrecondition: One is declared with another type.
    """
    known = {field.name: field.type for field in declared}
    for field in wanted:
        if known.get(field.name, field.type) is not field.type:
            raise FailedPrecondition(
                f"field {field.name!r} is declared as {known[field.name].value} already, not as {field.type.value}; "
                "drop it first, then declare it anew",
                field=field.name,
            )
    return [field for field in wanted if field.name not in known]


def fits(kind: FieldType, value: MetadataValue | Sequence[str]) -> bool:
    """Says whether a value is of a field's type.

    Integers fit a float field where a double holds them exactly: JSON and Python write 5 for 5.0.

    Args:
        kind: The field's type.
        value: One metadata value.

    Returns:
        Whether a record may bring it for the field.
    """
    return _kind_of(value) is kind or (kind is FieldType.FLOAT and _is_exact_float(value))


def contradiction(fields: Iterable[FieldDefinition], metadata: Mapping[str, MetadataValue]) -> InvalidInput | None:
    """Says what in a record's metadata is not of its field's type.

    Args:
        fields: The collection's.
        metadata: The record's.

    Returns:
        The error; `None` where all is well.
    """
    for field in fields:
        value = metadata.get(field.name)
        if value is not None and not fits(field.type, value):
            return InvalidInput(
                f"metadata {field.name!r} is {_said(value)}, but the collection declares that field as "
                f"{_WORDS[field.type]}; bring one, or leave it out",
                field=field.name,
                declared=field.type.value,
            )
    return None


def check_condition(condition: Condition, fields: Iterable[FieldDefinition]) -> None:
    """Refuses a filter that the collection's fields cannot answer.

    Args:
        condition: The filter.
        fields: The collection's.

    Raises:
        InvalidInput: It names an undeclared field, or asks of one what its type cannot answer.
        InputTooLarge: It is too deep or too long.
    """
    check_size(condition)
    declared = {field.name: field.type for field in fields}
    for part in field_conditions(condition):
        kind = declared.get(part.field)
        if kind is None:
            known = ", ".join(f"{name} ({kind.value})" for name, kind in declared.items()) or "none"
            raise InvalidInput(
                f"the filter names field {part.field!r:.150}, which is not declared (declared: {known}); "
                "declare it with an update of the collection's fields",
                field=part.field[:128],
            )
        problem = _problem(part, kind)
        if problem:
            raise InvalidInput(f"the filter on field {part.field!r}: {problem}", field=part.field, declared=kind.value)


def _problem(part: FieldCondition, kind: FieldType) -> str:
    """Says why a condition cannot be asked of a field; empty where it can."""
    match part:
        case Exists():
            return ""
        case OneOf(values=values):
            return _equality_problem(values, kind)
        case Range():
            return _range_problem(part.bounds, kind)
        case Prefix():
            return "" if kind is FieldType.STRING else f"a prefix is asked of a string, not of {_WORDS[kind]}"
        case GeoRadius():
            return _radius_problem(part, kind)


def _equality_problem(values: Sequence[MetadataValue], kind: FieldType) -> str:
    if kind is FieldType.GEO_POINT:
        return "a geo point is not compared for equality; ask for a radius"
    if not values:
        return "it compares with no value; give at least one"
    # A list of strings is asked whether it contains a string.
    return _value_problem(values, FieldType.STRING if kind is FieldType.STRING_LIST else kind)


def _range_problem(bounds: Sequence[MetadataValue], kind: FieldType) -> str:
    if kind not in _ORDERED:
        return f"a range is asked of an integer, a float or a timestamp, not of {_WORDS[kind]}"
    return _value_problem(bounds, kind) if bounds else "the range has no bound; give at least one"


def _value_problem(values: Sequence[MetadataValue], kind: FieldType) -> str:
    for value in values:
        if isinstance(value, float) and math.isnan(value):
            return "NaN equals nothing and is less than nothing; leave it out"
        if isinstance(value, int) and value not in _INT64:
            return f"integer {value} does not fit in 64 bits"
        if isinstance(value, datetime) and value.utcoffset() is None:
            return f"timestamp {value.isoformat()} has no time zone; give it one"
        if not fits(kind, value):
            return f"it is compared with {_said(value)}, and must be with {_WORDS[kind]}"
    return ""


def _radius_problem(part: GeoRadius, kind: FieldType) -> str:
    if kind is not FieldType.GEO_POINT:
        return f"a radius is asked of a geo point, not of {_WORDS[kind]}"
    if not part.radius_m > 0:
        return f"radius_m ({part.radius_m}) must be greater than 0"
    if not (-90 <= part.centre.latitude_deg <= 90 and -180 <= part.centre.longitude_deg <= 180):
        return f"its centre ({part.centre.latitude_deg}, {part.centre.longitude_deg}) is not on Earth"
    return ""


def _kind_of(value: object) -> FieldType | None:
    kind = _KINDS.get(type(value))
    # By the nearest ancestor: Python's True is a bool before it is an int.
    return kind or next((_KINDS[base] for base in type(value).__mro__ if base in _KINDS), None)


def _is_exact_float(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1 << 53


def _said(value: object) -> str:
    kind = _kind_of(value)
    return f"{_WORDS[kind] if kind else type(value).__name__} ({value!r:.60})"
