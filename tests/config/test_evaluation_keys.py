"""The keys of an evaluation that are shares, and those that exclude each other."""

import pytest
from omegaconf import OmegaConf

from mammo.api.configured_evaluation import threshold_rule
from mammo.config.checks import check
from mammo.config.composition import compose_with_choices
from mammo.config.data.subgroup_cuts import subgroup_cuts
from mammo.errors import ConfigError


@pytest.mark.parametrize("key", ["prevalence", "target_sensitivity", "target_specificity"])
@pytest.mark.parametrize("value", ["0", "1", "-0.1", "6", "nan"])
def test_a_share_out_of_range_is_refused(key: str, value: str) -> None:
    cfg, _ = compose_with_choices("evaluate", [f"{key}={value}"])
    with pytest.raises(ConfigError, match=rf"{key}=.*: must be above 0 and below 1"):
        check(cfg)
    cfg[key] = 0.006
    check(cfg)


def test_a_target_is_the_rule_and_two_are_refused() -> None:
    keys = {"target_sensitivity": None, "target_specificity": None}
    assert threshold_rule(OmegaConf.create(keys)) == {}
    one = OmegaConf.create(keys | {"target_specificity": 0.8})
    assert threshold_rule(one) == {"rule": "specificity", "target": 0.8}
    both = OmegaConf.create({"target_sensitivity": 0.9, "target_specificity": 0.8})
    with pytest.raises(ConfigError, match="exclude each other"):
        threshold_rule(both)


def test_intervals_need_a_resample() -> None:
    cfg, _ = compose_with_choices("evaluate", ["resamples=0"])
    with pytest.raises(ConfigError, match="resamples=0: must be at least 1"):
        check(cfg)


def test_subgroups_are_columns_with_the_numbers_that_cut_them() -> None:
    cfg, _ = compose_with_choices("evaluate", ["subgroups=[manufacturer,{age:[50,70]},{dose:2.5}]"])
    assert subgroup_cuts(cfg.subgroups) == {"manufacturer": [], "age": [50.0, 70.0], "dose": [2.5]}
    assert subgroup_cuts("view") == {"view": []}
    assert subgroup_cuts(None) is None
    for given in ("[{age:[70,50]}]", "[{age:[a]}]", "[{age:[true]}]", "[5]", "[{age:[50,50]}]"):
        cfg, _ = compose_with_choices("evaluate", [f"subgroups={given}"])
        with pytest.raises(
            ConfigError, match=r"subgroups: '.*' with .* is no column with ascending numbers; give"
        ):
            check(cfg)
