"""The columns of the key `subgroups`, with the numbers that cut their values."""

from typing import Any

from omegaconf import OmegaConf

from mammo.errors import ConfigError


def subgroup_cuts(chosen: Any) -> dict[str, list[float]] | None:
    """Return the columns of the key `subgroups`, each with the numbers at which its values are cut.

    Raises:
        ConfigError: it is no list of names and of names with ascending numbers.
    """
    if chosen is None:
        return None
    cuts: dict[str, list[float]] = {}
    for item in chosen if OmegaConf.is_list(chosen) else [chosen]:
        named = dict(item) if OmegaConf.is_dict(item) else {item: []}
        for name, points in named.items():
            numbers = list(points) if OmegaConf.is_list(points) else points if points == [] else [points]
            right = isinstance(name, str) and all(type(point) in (int, float) for point in numbers)
            if not right or numbers != sorted(set(numbers)):
                raise ConfigError(
                    f"subgroups: '{name}' with {numbers} is no column with ascending numbers; give "
                    "subgroups=[manufacturer,{age:[50,70]}]"
                )
            cuts[name] = [float(point) for point in numbers]
    return cuts
