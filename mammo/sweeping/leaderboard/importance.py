"""Importance of each setting of a search."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mammo.sweeping.leaderboard.axes import Axis, is_number, setting_text
from mammo.sweeping.leaderboard.trial_table import is_ranked
from mammo.sweeping.search.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

# In 30 simulated searches with five settings, of which one mattered, this setting had the first rank in 21
# searches with 20 random trials, in 27 with 30 and in 29 with 50. With the best tenth of the trials, which is
# Optuna's default, the numbers are 11, 15 and 26.
MIN_TRIALS = 20
_MIN_FINISHED = 5
_TOP = 0.25
_MAX_CATEGORIES = 10  # with few distinct numbers, the density estimate is too narrow


def importances(ranked: Sequence[Trial], axes: Mapping[str, Axis]) -> dict[str, float] | None:
    """Return the importance of the settings in descending order, with sum 1; None if too few trials ended.

    The method is PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), which compares the values in the best
    quarter of the trials with those in all trials. A pruned trial counts as worse than every finished one.

    Args:
        ranked: trials, the finished ones from the best to the worst.
        axes: axes by setting.
    """
    finished = [trial for trial in ranked if is_ranked(trial)]
    ended = finished + [trial for trial in ranked if trial.state == "pruned"]
    tried = {key for trial in ended for key in trial.settings}
    names = [key for key, axis in axes.items() if axis.varies and key in tried]
    if len(ended) < MIN_TRIALS or len(finished) < _MIN_FINISHED or not names:
        return None
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings that only few trials have
            study = optuna.create_study(direction="maximize")
            distributions = _distributions(ended, {key: axes[key] for key in tried})
            study.add_trials([_frozen(trial, -place, distributions) for place, trial in enumerate(ended)])
            top = min(_TOP, len(finished) / len(ended) - 1e-9)
            evaluator = PedAnovaImportanceEvaluator(target_quantile=top)
            return get_param_importances(study, evaluator=evaluator, params=names)
    finally:
        optuna.logging.set_verbosity(before)


def _distributions(trials: Sequence[Trial], axes: Mapping[str, Axis]) -> dict[str, "BaseDistribution"]:
    """Return the distribution of each setting in the trials; few distinct values become categories."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, axis in axes.items():
        values = {setting_text(trial.settings[key]) for trial in trials if key in trial.settings}
        if axis.scale is None or len(values) <= _MAX_CATEGORIES:
            found[key] = CategoricalDistribution(sorted(values))
            continue
        low, high, log = axis.scale.low, axis.scale.high, axis.scale.logarithmic
        found[key] = (
            IntDistribution(int(low), int(high), log) if axis.whole else FloatDistribution(low, high, log)
        )
    return found


def _frozen(trial: Trial, value: float, distributions: Mapping[str, "BaseDistribution"]) -> "FrozenTrial":
    """Convert a trial to Optuna's type; values of a numeric setting that are not numbers are omitted."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    settings: dict[str, float | str] = {}
    for key, setting in trial.settings.items():
        if isinstance(distributions[key], CategoricalDistribution):
            settings[key] = setting_text(setting)
        elif is_number(setting):
            settings[key] = setting
    return create_trial(
        value=value, params=settings, distributions={key: distributions[key] for key in settings}
    )
