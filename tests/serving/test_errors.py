from __future__ import annotations

import inspect
import re
import subprocess
import sys

from serving import errors
from serving.errors import DimensionMismatch, InvalidInput, Overloaded, ServingError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, ServingError)]


def test_every_error_is_public_and_shown_in_the_page_s_tree() -> None:
    names = {cls.__name__ for cls in CLASSES}
    assert names == set(errors.__all__)
    assert errors.__doc__ is not None
    shown = re.findall(r"^[\s│├└─]*([A-Z][A-Za-z]+)", errors.__doc__.split("\n", 1)[1], flags=re.MULTILINE)
    assert set(shown) == names
    assert len(shown) == len(set(shown))


def test_the_tree_shows_each_error_under_its_parent() -> None:
    depth_of: dict[int, str] = {}
    assert errors.__doc__ is not None
    lines = [line for line in errors.__doc__.splitlines()[1:] if line.strip()]
    for line in lines:
        match = re.match(r"^([\s│├└─]*)([A-Z][A-Za-z]+)", line)
        assert match is not None
        depth, cls = len(match.group(1)), getattr(errors, match.group(2))
        above = [known for known in depth_of if known < depth]
        parent = depth_of[max(above)] if above else "Exception"
        assert cls.__base__.__name__ == parent
        depth_of = {known: name for known, name in depth_of.items() if known < depth} | {depth: cls.__name__}


def test_every_error_but_the_base_has_a_reason_of_its_own() -> None:
    reasons = [cls.reason for cls in CLASSES if cls is not ServingError]
    assert len(reasons) == len(set(reasons))
    assert all(re.fullmatch(r"[A-Z][A-Z_]*[A-Z]", reason) for reason in reasons)


def test_an_error_carries_its_sentence_and_its_values_as_text() -> None:
    error = DimensionMismatch("of 3 dimensions, not 4", expected=4, found=3)
    assert str(error) == error.message == "of 3 dimensions, not 4"
    assert error.metadata == {"expected": "4", "found": "3"}
    assert error.item_errors == {}
    assert isinstance(error, InvalidInput)


def test_overload_says_when_to_come_back() -> None:
    error = Overloaded("full", retry_after_s=0.5, bound=8)
    assert error.retry_after_s == 0.5
    assert error.metadata == {"retry_after_s": "0.5", "bound": "8"}


def test_errors_need_no_grpc() -> None:
    code = "import serving.errors, sys; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
