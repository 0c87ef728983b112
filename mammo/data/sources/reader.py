"""The catalog of the chosen data source: a function of this package, or of the user."""

import inspect
import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mammo.config.data.data_schema import DataConfig
from mammo.config.instantiation import TARGET, Role, build, check_node
from mammo.data.catalog import Catalog, validate
from mammo.errors import ConfigError, DataError, MammoError

log = logging.getLogger(__name__)

DATA_SOURCE = Role("data source", base=(Catalog,))
# keys of `data` that are for every data set; a source gets those that its signature asks for
OF_EVERY_DATA_SET = tuple(field.name for field in fields(DataConfig))


def read_catalog(data: Mapping[str, Any]) -> Catalog:
    """Read the tables of the data set of the node `data`.

    Args:
        data: `_target_`, a function that returns a `Catalog`, with its keyword arguments, and the keys of
            every data set, as plain values.

    Raises:
        ConfigError: the source is wrong, see `check_node`, or returns no catalog.
        DataError: the data cannot be read, or the tables are not valid.
    """
    own, common = _divided(data)
    catalog: object = build(own, key="data", role=DATA_SOURCE, offered=common)
    if not isinstance(catalog, Catalog):
        kind = type(catalog).__name__
        raise ConfigError(f"data.{TARGET}={own[TARGET]}: returned a {kind}; return a Catalog")
    try:
        tables = validate(catalog)
    except MammoError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"data: the tables of {own[TARGET]} cannot be used: {type(error).__name__}: {reason}"
        ) from error
    for reason, count in tables.left_out.items():
        log.info("%d images are left out: %s", count, reason)
    if tables.images.empty:
        raise DataError(f"data: {own[TARGET]} found no image; check its arguments")
    tables.images["path"] = tables.images["path"].map(os.path.abspath, na_action="ignore").astype("string")
    return tables


def check_source(data: Mapping[str, Any]) -> dict[str, Any]:
    """Check the node `data` against the signature of its source, without reading anything.

    Returns:
        The node with the keys that the source gets.

    Raises:
        ConfigError: see `check_node`.
    """
    own, common = _divided(data)
    asked = inspect.signature(check_node(own, key="data", role=DATA_SOURCE, offered=common)).parameters
    return own | {key: value for key, value in common.items() if key in asked}


def source_name(data: Mapping[str, Any]) -> str:
    """Return the name of the source of a node `data`: `phantom` for `mammo.data...read_phantom`."""
    return str(data.get(TARGET) or "").rpartition(".")[2].removeprefix("read_")


def _divided(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keys of the source, and those of every data set."""
    common = {key: value for key, value in data.items() if key in OF_EVERY_DATA_SET}
    return {key: value for key, value in data.items() if key not in common}, common
