"""The runs that the value of a key names: a run, a folder of several runs, or a pattern."""

import glob
from collections.abc import Sequence
from pathlib import Path

from mammo.errors import ConfigError
from mammo.runs.run_folder import RunFolder, find_runs


def select_runs(name: str, *, key: str) -> tuple[list[RunFolder], list[RunFolder]]:
    """Return the runs of a folder or pattern, and those that are left out because they are not finished.

    Args:
        name: folder of a run, or `latest`; folder that holds runs, such as that of a multirun or search; or a
            pattern of folders of both kinds, such as `runs/2026*`.
        key: key of the configuration, for messages.

    Raises:
        ConfigError: there is no such run, or none of them is finished.
    """
    folder = Path(name)
    if name == "latest" or (folder / "run.json").exists():
        return [RunFolder.find(name, key=key)], []
    folders = [folder]
    if not folder.exists() and glob.has_magic(name):
        folders = [Path(found) for found in sorted(glob.glob(name, recursive=True))]
    found = {run.path.resolve(): run for each in folders for run in find_runs(each)}
    if not found:
        raise ConfigError(
            f"{key}={name}: holds no run; give a folder with a run.json or one of several runs, a pattern of "
            "folders, or latest"
        )
    finished = [run for run in found.values() if run.facts().get("status") == "finished"]
    if not finished:
        raise ConfigError(f"{key}={name}: none of its {len(found)} runs is finished; wait for one")
    return finished, [run for run in found.values() if run not in finished]


def comparable_runs(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Return the largest group of finished runs that score the same validation images in the same way.

    Args:
        runs: finished runs; those that come first are preferred.
    """
    groups: dict[tuple[str, ...], list[RunFolder]] = {}
    for run in runs:
        config, images = run.config(), run.path / "split" / "val.txt"
        unit, task = (config.get("data") or {}).get("sample_unit"), (config.get("task") or {}).get("name")
        names = images.read_text() if images.exists() else str(run.path)
        groups.setdefault((names, str(unit), str(task)), []).append(run)
    return max(groups.values(), key=len, default=[])
