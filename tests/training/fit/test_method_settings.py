from __future__ import annotations

import pytest

from training.fit.method_settings import method_config, require_method
from training.methods.image.mean_shift import MeanShiftConfig
from training.methods.image.simclr import SimCLRConfig


def test_without_settings_a_method_is_its_papers() -> None:
    assert method_config(require_method("simclr", "image"), {}) == SimCLRConfig()


def test_settings_come_over_the_papers() -> None:
    found = method_config(require_method("mean-shift", "image"), {"ema_decay": 1, "bank_size": None})

    assert found == MeanShiftConfig(ema_decay=1.0, bank_size=None)


def test_an_unknown_setting_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"simclr has no such setting; it has augmentation .*, temperature \(0\.5\)"):
        method_config(require_method("simclr", "image"), {"temprature": 1, "temperature": 0.5})


@pytest.mark.parametrize("value", ["warm", True, None])
def test_a_value_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="--set: temperature"):
        method_config(require_method("simclr", "image"), {"temperature": value})


def test_a_method_of_the_other_modality_is_pointed_out() -> None:
    with pytest.raises(ValueError, match="--method simclr learns from image; use: diptych train image"):
        require_method("simclr", "text")
