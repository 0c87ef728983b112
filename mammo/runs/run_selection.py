"""The runs that the value of a key names: a run, a folder of several runs, or a pattern."""

import glob
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
