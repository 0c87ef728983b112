"""`python -m mammo.download`: downloads a data set from the Imaging Data Commons into `data.root`."""

import csv
import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.atomic_files import report_unwritable
from mammo.config.calls.next_steps import ending
from mammo.config.checks import arguments_for, plain
from mammo.config.command import hydra_main
from mammo.config.composition import config_dirs
from mammo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mammo.download.download_plan import DownloadPlan
    from mammo.download.idc_series import Series

_SETS = ("cbis_ddsm", "cmmd")
_MOST_LISTED = 20  # series in the list of those that did not come; all are in the file


def _set_of(cfg: DictConfig) -> str:
    """Return the name of the data set; raise ConfigError if it is not downloaded."""
    name = str(cfg.data.get("_target_")).rpartition(".read_")[2]
    if name not in _SETS:
        choices = " or ".join(f"data={each}" for each in _SETS)
        raise ConfigError(f"data={name}: is not downloaded by this command; give {choices}")
    return name


@hydra_main("download", check=_set_of)
def main(cfg: DictConfig) -> None:
    name = _set_of(cfg)
    for key in ("masks", "crops"):
        if cfg[key] and name != "cbis_ddsm":
            raise ConfigError(f"{key}=true: {name} has none; leave it out")
    if cfg.prepare and name != "cbis_ddsm":
        raise ConfigError(
            f"prepare=true: only the headers of {name} name its images, so they are prepared together; leave "
            "it out, and give python -m mammo.prepare afterwards"
        )

    from mammo.download.download_plan import plan_download
    from mammo.download.series_transfer import remove_parts
    from mammo.runs.run_lock import RunLock

    root = Path(cfg.data.root)
    with report_unwritable("data.root", root):
        root.mkdir(parents=True, exist_ok=True)
    with RunLock(root) as lock:
        try:
            lock.acquire()
        except ConfigError as error:
            raise ConfigError(f"data.root={root}: another download writes to it; wait for its end") from error
        remove_parts(root)
        plan = plan_download(
            name,
            plain(cfg.data),
            patients=cfg.patients,
            masks=cfg.masks,
            crops=cfg.crops,
            index=None if cfg.index is None else Path(cfg.index),
            tables=cfg.tables,
        )
        failed = _prepare(cfg, plan) if cfg.prepare else _download(cfg, plan)
    _report(root, failed, plan.absent)
    _audit()


def _download(cfg: DictConfig, plan: "DownloadPlan") -> "dict[Series, str]":
    """Download what is missing; return the series that did not come, with the reason."""
    from mammo.download.series_download import download_series, megabyte_progress, require_room
    from mammo.download.series_transfer import require_server

    missing = plan.missing()
    _say_size(plan, missing)
    if not missing:
        return {}
    require_room(
        plan.root,
        sum(each.size for each in missing),
        remedy="free some, or choose fewer with patients=N or data.abnormality, or give prepare=true",
    )
    require_server(cfg.endpoint)
    with megabyte_progress(plan.series, missing) as advance:
        return download_series(missing, plan.root, endpoint=cfg.endpoint, advance=advance)


def _say_size(plan: "DownloadPlan", missing: "list[Series]") -> None:
    print(plan.summary(missing, shutil.disk_usage(plan.root).free), flush=True)


def _prepare(cfg: DictConfig, plan: "DownloadPlan") -> "dict[Series, str]":
    """Download and prepare the images in batches; return the series that did not come, with the reason."""
    from mammo.data.store.store import prepare
    from mammo.download.batched_preparation import prepare_in_batches

    store, failed = prepare_in_batches(
        plan,
        plain(cfg.data),
        arguments_for(prepare, cfg.data),
        endpoint=cfg.endpoint,
        announce=functools.partial(_say_size, plan),
    )
    if store is not None:
        counts = store.manifest["counts"]
        print(
            f"{counts['images']} images prepared, {counts['rejected']} rejected, {counts['lesions']} lesions"
        )
        print(ending({"store": store.directory.absolute()}))
    return failed


def _report(root: Path, failed: "dict[Series, str]", absent: list[str]) -> None:
    """Raise an error that ends the command if series did not come; list them.

    Raises:
        DataError: a series did not come.
    """
    listing = root / "not_downloaded.csv"
    if not failed and not absent:
        listing.unlink(missing_ok=True)
        return
    rows = [(each.uid, each.folder, reason) for each, reason in failed.items()]
    rows += [(uid, "", "the index lacks it") for uid in absent]
    with listing.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("SeriesInstanceUID", "folder", "reason"), *rows])
    for uid, folder, reason in rows[:_MOST_LISTED]:
        print(f"did not come: {folder or uid}: {reason}", file=sys.stderr)
    raise DataError(
        f"data.root={root}: {len(rows)} series did not come, see {listing}; start the same command again, "
        "which keeps what has come"
    )


def _audit() -> None:
    """Count what is in the folder, as a command of its own, which prints its result and the next commands."""
    data = [
        override
        for override in HydraConfig.get().overrides.task
        if override.startswith("data") and not override.startswith("data.cases=")
    ]
    if not any(override.startswith("data=") for override in data):
        data.insert(0, f"data={_SETS[0]}")
    folders = [part for folder in config_dirs() for part in ("--config-dir", str(folder))]
    print(flush=True)
    done = subprocess.run([sys.executable, "-m", "mammo.audit", *folders, *data, "pixels=false"], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
