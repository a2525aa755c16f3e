"""The one place where ONNX Runtime is spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types
from numpy.typing import NDArray

from models.bundle.errors import BundleError

__all__ = ["OnnxSession"]

_SPIN_US: Final = 500
"""How long a graph's idle thread looks for more work before it sleeps."""
_ERROR_SEVERITY: Final = 3  # ONNX Runtime's scale: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


class OnnxSession:
    """A graph on this machine's CPU; `run` may be called from several threads at once.

    Args:
        graph: The `.onnx` file.
        threads: Threads that one call uses, at least 1.

    Raises:
        BundleError: ONNX Runtime cannot open the graph.
        ValueError: `threads` is below 1.
    """

    def __init__(self, graph: Path, *, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads ({threads}) must be at least 1")
        onnxruntime.disable_telemetry_events()
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), sess_options=_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library has no common base for the errors of a graph it cannot open
            detail = " ".join(str(error).split())
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot open '{graph.name}': {detail}") from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(value.name for value in self._session.get_inputs())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(value.name for value in self._session.get_outputs())

    def run(self, output: str, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Computes one output and nothing that only the others need.

        Args:
            output: Its name.
            feeds: Every input by its name.

        Returns:
            The output.
        """
        (result,) = self._session.run([output], dict(feeds))
        return np.asarray(result, dtype=np.float32)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR_SEVERITY
    # Memory patterns are kept per input shape; texts come in as many shapes as there are lengths.
    options.enable_mem_pattern = False
    # Threads that spin between two operators save one text a seventh of its time (8.1 to 7.0 ms on two cores); those
    # that spin on when the graph is done take the cores which tokenizing, decoding and searching need.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    return options
