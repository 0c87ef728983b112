"""What a search varies: a domain for each key of train.py, which may apply under conditions.

    space:
      optim: {choice: [adam, sgd]}            # a group of train.py, or a key
      optim.lr: {log_uniform: [5e-5, 1e-3]}   # or uniform
      data.batch_size: {int: [4, 32], step: 4}  # or log: true
      optim.momentum:
        uniform: [0.0, 0.99]
        when: {optim: [sgd, rmsprop]}         # another key of the space, or one that is fixed
      image_size:                             # a name for several overrides
        choice:
          small: [data.height=512, data.width=512]
          large: [data.height=1024, data.width=1024]
      model.dropout: null                     # removed; also of a domain: {choice: null, int: [1, 8]}

Nothing here imports PyTorch or Optuna, so that a mistake is reported at once.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.calls.override_values import parser
from mammo.config.checks import CONF, nearest
from mammo.config.composition import Compositions, compose_train, compose_with_choices, keys_of, options_of
from mammo.errors import ConfigError
from mammo.sweeping.search.domains import Domain, read_domain
from mammo.sweeping.search.trials import Value

if TYPE_CHECKING:
    from optuna.trial import Trial

Settings = dict[str, Value]
Conditions = dict[str, tuple[Value, ...]]  # key to the values it may have


class Space:
    """Keys with their domains, and conditions under which they apply.

    Args:
        domains: domains by key.
        conditions: conditions by key, all of which must hold.

    Raises:
        ConfigError: a condition can never hold.
    """

    def __init__(self, *, domains: Mapping[str, Domain], conditions: Mapping[str, Conditions]) -> None:
        for key, when in conditions.items():
            for name, values in when.items():
                if name in domains:
                    _check_condition(f"sweep.space.{key}.when.{name}", domains[name], values)
        self.conditions = conditions
        self.domains = {key: domains[key] for key in _ordered(domains, conditions)}  # conditions first

    @classmethod
    def from_config(cls, space: Mapping[str, Any]) -> "Space":
        """The space that the node `sweep.space` of the configuration describes.

        Raises:
            ConfigError: it describes none.
        """
        nodes = {str(key): node for key, node in space.items() if node is not None}
        if not nodes:
            raise ConfigError(
                "sweep.space: is empty; give it a key with a domain, optim.lr: {log_uniform: [1e-5, 1e-2]}"
            )
        domains = {key: read_domain(f"sweep.space.{key}", node) for key, node in nodes.items()}
        when = {
            key: _read_conditions(f"sweep.space.{key}.when", node["when"])
            for key, node in nodes.items()
            if node.get("when") is not None
        }
        return cls(domains=domains, conditions=when)

    def suggest(self, trial: "Trial", fixed: Mapping[str, Value]) -> Settings:
        """A trial's settings: those it has already, and the others drawn by its study's sampler.

        Args:
            trial: trial of Optuna.
            fixed: see `fixed`.
        """
        settings: Settings = {}
        for key, domain in self.domains.items():
            if self._applies(key, {**fixed, **settings}):
                settings[key] = domain.suggest(trial, key)
        return settings

    def grid(self, fixed: Mapping[str, Value]) -> list[Settings]:
        """Each configuration there is, once; the last key varies fastest.

        Raises:
            ConfigError: there are too many.
        """
        return self._grid(list(self.domains), fixed)

    def overrides(self, settings: Mapping[str, Value]) -> list[str]:
        """What settings are on train.py's command line, groups first."""
        found = [each for key, value in settings.items() for each in self.domains[key].overrides(key, value)]
        return sorted(found, key=lambda override: not (CONF / override.partition("=")[0]).is_dir())

    def varied(self) -> dict[str, str]:
        """Key of train.py to the key of the space that sets it."""
        return {
            parser().parse_override(override).key_or_group: key
            for key, domain in self.domains.items()
            for value in domain.extremes()
            for override in domain.overrides(key, value)
        }

    def fixed(self, overrides: list[str]) -> Settings:
        """Of the keys outside the space that conditions name, the value or choice in every trial.

        Args:
            overrides: overrides of train.py in every trial.

        Raises:
            ConfigError: there is no such key, or an override is wrong.
        """
        named = [
            (key, name) for key, when in self.conditions.items() for name in when if name not in self.domains
        ]
        if not named:
            return {}
        cfg, choices = compose_with_choices("train", overrides)
        fixed: Settings = {}
        for key, name in named:
            place = f"sweep.space.{key}.when.{name}"
            known = [*self.domains, *choices, *keys_of(cfg)]
            if name not in known:
                raise ConfigError(f"{place}: no such key{nearest(name, known)}")
            fixed[name] = choices[name] if name in choices else _plain(OmegaConf.select(cfg, name))
            for value in self.conditions[key][name] if name in choices else ():
                options = options_of(name)
                if value not in (*options, fixed[name]):
                    raise ConfigError(f"{place}={value}: no such choice{nearest(str(value), options)}")
        return fixed

    def check(self, overrides: list[str]) -> list[DictConfig]:
        """Composes trainings in which every value of a choice and both ends of every range occur.

        Args:
            overrides: overrides of train.py in every trial.

        Returns:
            The trainings.

        Raises:
            ConfigError: an override is wrong, or a key or value of the space.
        """
        compositions = Compositions()
        base = [*overrides, *self._mandatory(compositions.unchecked(overrides))]
        compositions.training(base)
        self._check_not_given(overrides)
        fixed = self.fixed(overrides)
        if not any(self._applies(key, fixed) for key in self.domains):
            raise ConfigError("sweep.space: no key of it applies, for no condition holds; see its when")
        trainings = []
        for settings in self._covering_settings(fixed):
            try:
                trainings.append(compositions.training([*overrides, *self.overrides(settings)]))
            except ConfigError as error:
                raise self._error_of_key(str(error), base, settings) from error
        return trainings

    def _mandatory(self, cfg: DictConfig) -> list[str]:
        """First values of the keys that only the space gives a value, such as `model.name`."""
        varied = self.varied()
        keys = [varied[key] for key in sorted(OmegaConf.missing_keys(cfg)) if key in varied]
        return self.overrides({key: self.domains[key].extremes()[0] for key in keys})

    def _applies(self, key: str, values: Mapping[str, Value]) -> bool:
        when = self.conditions.get(key, {})
        return all(name in values and values[name] in allowed for name, allowed in when.items())

    def _grid(self, keys: list[str], fixed: Mapping[str, Value]) -> list[Settings]:
        grid: list[Settings] = [{}]
        for key in keys:
            points = self.domains[key].points()
            if points is None:
                raise ConfigError(
                    f"sweep.space.{key}: a grid is of choices and of whole numbers; give it a choice, "
                    "or another sweep.sampler.name"
                )
            grid = [
                further
                for settings in grid
                for further in (
                    [settings | {key: point} for point in points]
                    if self._applies(key, {**fixed, **settings})
                    else [settings]
                )
            ]
        return grid

    def _covering_settings(self, fixed: Mapping[str, Value]) -> Iterator[Settings]:
        """A few settings in which every value of a choice and both ends of every range occur."""
        left = {key: list(domain.extremes()) for key, domain in self.domains.items()}
        decisive = [key for key in self.domains if any(key in when for when in self.conditions.values())]
        for decided in self._grid(decisive, fixed):
            values = {**fixed, **decided}
            others = [key for key in self.domains if key not in decisive and self._applies(key, values)]
            for _ in range(max([1, *(len(left[key]) for key in others)])):
                yield decided | {
                    key: left[key].pop(0) if left[key] else self.domains[key].extremes()[0] for key in others
                }

    def _check_not_given(self, overrides: list[str]) -> None:
        varied = self.varied()
        for override in overrides:
            key = varied.get(parser().parse_override(override).key_or_group)
            if key is not None:
                raise ConfigError(
                    f"{override}: sweep.space.{key} varies it; leave one out, "
                    f"that with '+sweep.space={{{key}: null}}'"
                )

    def _error_of_key(self, message: str, overrides: list[str], settings: Settings) -> ConfigError:
        """The error of the key that is wrong by itself, or else of all together."""
        for key in sorted(settings, key=lambda key: not message.startswith(key)):
            alone = self._with_conditions(key, settings)
            found = _error(overrides + self.overrides(alone))
            if found is None and not message.startswith(key):
                continue
            if hint := self._missing_condition(key, alone, overrides):
                return ConfigError(f"sweep.space.{key}: {hint}")
            if found is not None:
                named, _, reason = found.partition(": ")
                if not named.startswith(f"{key}="):
                    return ConfigError(f"sweep.space.{key}: {found}")
                return ConfigError(
                    f"sweep.space.{key if reason.startswith('no such key') else named}: {reason}"
                )
        return ConfigError(f"sweep.space: with {' '.join(self.overrides(settings))}, {message}")

    def _with_conditions(self, key: str, settings: Settings) -> Settings:
        """Of settings, a key's with those that its conditions name, and theirs."""
        needed = {key}
        for name in reversed(self.domains):
            if name in needed:
                needed.update(self.conditions.get(name, {}))
        return {name: value for name, value in settings.items() if name in needed}

    def _missing_condition(self, key: str, alone: Settings, overrides: list[str]) -> str | None:
        """What to say of a key that only some of the searched choices of its group have."""
        group = key.partition(".")[0]
        if group == key or group not in self.domains or group in alone:
            return None
        choices = self.domains[group].points() or ()
        having = [
            choice
            for choice in choices
            if _error(overrides + self.overrides({group: choice, **alone})) is None
        ]
        if not having or len(having) == len(choices):
            return None
        names = ", ".join(map(str, having))
        return f"is there only with {group}={names}; give it when: {{{group}: [{names}]}}"


def _error(overrides: list[str]) -> str | None:
    try:
        compose_train(overrides)
    except ConfigError as error:
        return str(error)
    return None


def _plain(value: Any) -> Value:
    """A choice of the schema as the word it is."""
    return str(value) if isinstance(value, str) else value


def _read_conditions(place: str, node: Any) -> Conditions:
    if not isinstance(node, dict) or not node:
        raise ConfigError(f"{place}={node}: give {{KEY: VALUE}} or {{KEY: [VALUE, VALUE]}}")
    return {str(name): tuple(value) if isinstance(value, list) else (value,) for name, value in node.items()}


def _check_condition(place: str, domain: Domain, values: tuple[Value, ...]) -> None:
    points = domain.points()
    if points is None:
        raise ConfigError(f"{place}: is a range of numbers; a condition needs a choice")
    for value in values:
        if value not in points:
            raise ConfigError(f"{place}={value}: no such choice; choose from {', '.join(map(str, points))}")


def _ordered(domains: Mapping[str, Domain], conditions: Mapping[str, Conditions]) -> list[str]:
    """The keys, each after those that its conditions name.

    Raises:
        ConfigError: conditions name each other.
    """
    ordered: list[str] = []
    left = list(domains)
    while left:
        for key in left:
            if not any(name in left for name in conditions.get(key, {})):
                break
        else:
            raise ConfigError(
                f"sweep.space: the conditions of {' and '.join(left)} name each other; leave one out"
            )
        left.remove(key)
        ordered.append(key)
    return ordered
