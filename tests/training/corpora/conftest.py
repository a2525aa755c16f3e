"""Fixtures of the data room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.corpora.registry.fake_registry import FakeRegistry, serving


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with serving() as running:
        yield running
