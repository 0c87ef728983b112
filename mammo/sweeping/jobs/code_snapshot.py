"""A copy of the code and the configuration, so that a queued job runs as it was submitted."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import mammo
from mammo.config.checks import CONF
from mammo.errors import ConfigError
from mammo.runs import FROZEN_COMMIT, git_commit

_PACKAGE = Path(mammo.__file__).parent


def freeze(folder: Path, *, config_dirs: Sequence[Path] = ()) -> Path:
    """Copy code and configuration to `folder/code`, unless the copy exists.

    A process with that folder first in its `PYTHONPATH` imports and composes from the copy alone.

    Args:
        folder: folder of a multirun or search.
        config_dirs: folders with more choices of the groups in `conf`, given by `--config-dir`.

    Returns:
        Absolute path of the copy.
    Raises:
        ConfigError: the folder cannot be written.
    """
    code = folder / "code"
    draft = folder / f"code.{os.getpid()}.partial"
    try:
        if not code.exists():
            for source, name in ((_PACKAGE, "mammo"), (CONF, "conf")):
                # an installed package contains its own `conf`, which would take precedence over the copy
                shutil.copytree(source, draft / name, ignore=shutil.ignore_patterns("__pycache__", "conf"))
            for group in (path for path in (draft / "conf").iterdir() if path.is_dir()):
                for config_dir in config_dirs:
                    _add_choices(config_dir / group.name, group)
            (draft / FROZEN_COMMIT).write_text(git_commit() or "")
            draft.rename(code)
    except OSError as error:
        if not code.exists():  # else another process was faster
            raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    shutil.rmtree(draft, ignore_errors=True)
    return code.absolute()


def _add_choices(source: Path, group: Path) -> None:
    """Copy the files that the group does not have: in Hydra too, files of `conf` take precedence."""
    for file in source.rglob("*.yaml"):
        target = group / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
