"""What a kind of long work is: a class that says what is asked for, what it does, and whether it resumes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from serving.jobs.workplace import Workplace

__all__ = ["Cancelled", "JobKind", "JobStopped", "Progress"]

Cancelled = Callable[[], bool]
"""Says whether the job shall stop; asked often."""


class JobStopped(Exception):  # noqa: N818 - no failure: someone asked for it
    """Raised by a job that was asked to stop and has left nothing half done."""


class Progress(Protocol):
    """How a job tells how far it is."""

    @property
    def saved(self) -> Mapping[str, Any]:
        """What the job saved last, before a restart too; empty at first."""
        ...

    def report(self, done_count: int, total_count: int) -> None:
        """Tells how far the job is; cheap, and may be forgotten by a crash.

        Args:
            done_count: Units done.
            total_count: Units in all; 0 where that is not known.
        """
        ...

    def save(self, state: Mapping[str, Any]) -> None:
        """Remembers, durably, what a restart needs to go on.

        Args:
            state: Whatever JSON can hold; replaces what was saved.
        """
        ...


class JobKind(ABC):
    """One kind of job. A subclass is a frozen dataclass whose fields, which JSON can hold, are what was asked for.

    A new kind is a file with its class, and a line in `serving.jobs.kinds`.
    """

    kind: ClassVar[str]
    """Its name on the wire."""
    resumes: ClassVar[bool]
    """Whether a restart of the server runs it again: then `run` is idempotent and goes on from `progress.saved`.
    Otherwise a job that was running ends as failed, and says so."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What it is done to, such as a collection's name."""

    @abstractmethod
    def run(self, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        """Does the work, in a thread of its own.

        Args:
            workplace: What jobs work on.
            progress: Hears how far it is.
            cancelled: Asked at every safe point; where it says so, the work is left tidy and `JobStopped` raised.

        Raises:
            JobStopped: It was asked to stop, and did.
            ServingError: It failed; becomes the job's error.
        """
