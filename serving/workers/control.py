"""What the owner says to a worker over the worker's own socket: which encoders to hold, and to tell its metrics.

Both ends are one version of one program, so that the messages are JSON and no contract.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.bundle.encoder import EncoderInfo
from serving.encoders.pool import EncoderPool

__all__ = ["KEEP_STEP", "METRICS", "SERVICE", "Step", "StepOutcome", "WantedEncoder", "description", "wanted_of"]

SERVICE = "diptych.workers.Worker"
KEEP_STEP = f"/{SERVICE}/KeepStep"
METRICS = f"/{SERVICE}/GetMetrics"

Description = Mapping[str, Any]
"""All that is known of an encoder, as JSON has it."""


@dataclass(frozen=True, slots=True)
class WantedEncoder:
    """An encoder that the owner serves."""

    folder: str
    """Name of its bundle's folder."""
    encoder: Description
    """By `description`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where the owner stands, and a worker shall stand."""

    encoders: Mapping[str, WantedEncoder]
    """Encoders that serve, by reference."""
    states: Mapping[str, tuple[str, str]]
    """Phase and detail of whatever else is known, by name."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What each alias means."""

    def to_bytes(self) -> bytes:
        """Returns the message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Step:
        """Reads what `to_bytes` wrote.

        Args:
            message: The message.

        Returns:
            The step.
        """
        values = json.loads(message)
        return cls(
            encoders={name: WantedEncoder(**wanted) for name, wanted in values["encoders"].items()},
            states={name: (phase, detail) for name, (phase, detail) in values["states"].items()},
            aliases=values["aliases"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """Where a worker stands now."""

    apart: Mapping[str, str] = field(default_factory=dict)
    """Encoders in which it differs from the owner, and why; empty: it embeds, otherwise it forwards."""

    def to_bytes(self) -> bytes:
        """Returns the message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> StepOutcome:
        """Reads what `to_bytes` wrote.

        Args:
            message: The message.

        Returns:
            The outcome.
        """
        return cls(**json.loads(message))


def description(info: EncoderInfo) -> Description:
    """Returns what two processes compare of an encoder, as it is after its way through JSON.

    Args:
        info: The encoder.

    Returns:
        All its fields.
    """
    described: Description = json.loads(json.dumps(asdict(info)))
    return described


def wanted_of(pool: EncoderPool) -> Step:
    """Returns where a pool stands, for others to follow.

    Args:
        pool: The owner's.

    Returns:
        Its encoders, and the states of whatever does not serve.
    """
    running = pool.roster.running()
    encoders = {name: WantedEncoder(one.folder, description(one.encoder.info)) for name, one in running.items()}
    others = {name: state for name, state in pool.roster.states().items() if name not in running}
    states = {name: (state.phase.value, state.detail) for name, state in others.items()}
    return Step(encoders=encoders, states=states, aliases=pool.roster.aliases)
