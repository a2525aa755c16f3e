from __future__ import annotations

import pytest

from training.fit.method_settings import method_config, require_method
from training.methods.configs import MeanShiftConfig, SimCLRConfig


def test_without_settings_a_method_is_its_papers() -> None:
    assert method_config(require_method("simclr", "image"), {}) == SimCLRConfig()


def test_a_preset_suits_the_run_and_settings_come_over_it() -> None:
    entry = require_method("mean-shift", "image")

    assert method_config(entry, {}, presets=("small",)) == MeanShiftConfig.small()
    found = method_config(entry, {"ema_decay": 1, "weak_target": False}, presets=("small",))
    assert (found.ema_decay, found.weak_target, found.bank_size) == (1.0, False, None)


def test_an_unknown_setting_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"--set temprature: simclr has no such setting; it has temperature \(0\.5\)"):
        method_config(require_method("simclr", "image"), {"temprature": 1}, presets=("small",))


@pytest.mark.parametrize("value", ["warm", True, None])
def test_a_value_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="--set: temperature"):
        method_config(require_method("simclr", "image"), {"temperature": value})


def test_a_method_of_the_other_modality_is_pointed_out() -> None:
    with pytest.raises(ValueError, match="--method simclr learns from image; use: diptych train image"):
        require_method("simclr", "text")
