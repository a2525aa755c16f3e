from __future__ import annotations

import torch

from training.losses.precision import unit_rows


def test_tiny_half_precision_rows_become_unit_rows() -> None:
    # In fp16 the squared norm, and the guard of 1e-12, are both 0.
    rows = torch.tensor([[6e-5, 0.0], [0.0, 0.0]], dtype=torch.float16)
    torch.testing.assert_close(unit_rows(rows), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
