"""`python -m mammo.audit`: counts the data, inspects its files, and finds missing files and leaks."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.calls.first_trainings import experiment_for, first_trainings, size_of, without_given
from mammo.config.calls.next_steps import call, ending, this_call
from mammo.config.checks import arguments_for, plain
from mammo.config.command import hydra_main, write_json
from mammo.errors import ConfigError
from mammo.runs import find_runs
from mammo.sweeping.jobs.device_slots import visible_gpus

if TYPE_CHECKING:
    from mammo.data.inspection.file_survey import FileFacts

_SPLITS = ("", "train", "test")
_TYPES = ("", "mass", "calcification", "both")
_COLUMNS = ("images", "malignant_images", "patients", "lesions", "malignant_lesions")
_MOST_VALUES = 12  # values of a property that are printed; all are in the JSON


@hydra_main("audit")
def main(cfg: DictConfig) -> None:
    for key in ("sheet", "output"):
        if cfg[key] is not None:
            _require_folder(key, Path(cfg[key]))

    from mammo.data.inspection.survey_findings import count_properties, warnings_of

    counts: dict[str, Any] = {}
    has_lesions = False
    if cfg.input is None:
        from mammo.data.inventory import inventory
        from mammo.data.sources.reader import read_catalog

        catalog = read_catalog(plain(cfg.data))
        counts = inventory(catalog, **arguments_for(inventory, cfg.data))
        print(_table(counts))
        known = catalog.images.dropna(subset="path").drop_duplicates("path")
        labels = {
            Path(path): str(label)
            for path, label in zip(known["path"], known["pathology"], strict=True)
            if isinstance(label, str)
        }
        paths = [Path(path) for path in known["path"]]
        placed = catalog.lesions[["x_min", "mask_paths"]].notna().any(axis=1)
        has_lesions = bool((placed & catalog.lesions["pathology"].notna()).any())
    else:
        from mammo.evaluation.prediction.input_files import find_files

        found = find_files(cfg.input)
        paths, labels = [found.root / path for path in found.paths], {}
    files = _survey(cfg, paths)
    properties, warnings = count_properties(files), warnings_of(files, labels)
    print(_properties(properties))
    if not paths:
        warnings = ["no image of the table has a file; give data.root=DIR, the folder of the images"]
    for warning in warnings:
        print(f"warning: {warning}")
    written = {}
    if cfg.sheet is not None and cfg.pixels and paths:
        _write_sheet(cfg, files, warnings, labels)
        written["contact sheet"] = cfg.sheet
    if cfg.output is not None:
        write_json(counts | {"files": properties, "warnings": warnings}, Path(cfg.output))
        written["written to"] = cfg.output
    print(f"\n{ending(written, *_next(cfg, has_files=bool(paths), has_lesions=has_lesions))}")


def _next(cfg: DictConfig, *, has_files: bool, has_lesions: bool) -> list[str]:
    if cfg.input is not None:
        predict = call("predict", run="latest", input=cfg.input, output="scores.csv")
        return (
            [predict, this_call({"output": "audit.json"})]
            if find_runs(Path("runs"))
            else [call("train"), predict]
        )
    if not has_files:
        return [call("audit", "--help"), call("train")]
    of_audit = ("output", "sheet", "pixels")
    data = [each for each in HydraConfig.get().overrides.task if each.partition("=")[0] not in of_audit]
    source = str(HydraConfig.get().runtime.choices["data"])
    experiment = experiment_for(source, has_lesions=has_lesions, has_gpu=bool(visible_gpus()))
    trainings = first_trainings(experiment, data)
    if len(trainings) > 1:
        return trainings
    return [call("prepare", *data, **without_given(size_of(experiment), data)), *trainings]


def _require_folder(key: str, file: Path) -> None:
    """Make the folder of a file, so that a wrong path is told before the images are read."""
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{key}={file}: its folder cannot be made ({error.strerror}); name another file"
        ) from error


def _survey(cfg: DictConfig, paths: list[Path]) -> "list[FileFacts]":
    from mammo.data.images.display import Display
    from mammo.data.inspection.file_survey import survey

    display = Display(**arguments_for(Display, cfg.data))
    return survey(paths, display=display, pixels=cfg.pixels, workers=cfg.data.workers)


def _write_sheet(
    cfg: DictConfig, files: "list[FileFacts]", warnings: list[str], labels: dict[Path, str]
) -> None:
    from mammo.data.images.display import Display
    from mammo.data.inspection.contact_sheet import write_sheet
    from mammo.data.inspection.survey_findings import ranges_of
    from mammo.data.store.store_building import Settings

    display = Display(**arguments_for(Display, cfg.data), kinds=ranges_of(files))
    data = cfg.data
    scale = 400 / max(data.height, data.width)
    settings = Settings(
        height=round(data.height * scale),
        width=round(data.width * scale),
        crop=data.crop.value,
        aspect=data.aspect.value,
        dtype="uint16",
        masks=False,
        display=display,
    )
    write_sheet(Path(cfg.sheet), files, settings=settings, warnings=warnings, labels=labels)


def _properties(properties: dict[str, dict[str, int]]) -> str:
    """Return the number of files of each value of each property, a line for each property."""
    lines = [""]
    for name, values in properties.items():
        shown = [f"{value} {count}" for value, count in itertools.islice(values.items(), _MOST_VALUES)]
        more = [f"and {len(values) - _MOST_VALUES} others"] if len(values) > _MOST_VALUES else []
        lines.append(f"{name}: {', '.join([*shown, *more])}")
    return "\n".join(lines)


def _table(counts: dict[str, Any]) -> str:
    """Return a table of counts by split and abnormality type, with a line for every other number below.

    The lists of ids and files are only in the JSON.
    """
    import pandas as pd

    rest = {name: n for name, n in counts.items() if not isinstance(n, list)}
    if counts["lesions_with_box"] == counts["lesions"] == counts.get("lesion_masks_missing"):
        # where all lesions have boxes, masks are not missing
        rest = {name: n for name, n in rest.items() if "mask" not in name}
    parts = ["_".join(filter(None, names)) for names in itertools.product(_SPLITS, _TYPES)]
    rows = {}
    for part in parts:
        names = [f"{part}_{column}".lstrip("_") for column in _COLUMNS]
        if names[0] in rest:
            rows[part.replace("_", " ") or "all"] = [rest.pop(name, "") for name in names]
    columns = [column.replace("_", " ") for column in _COLUMNS]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    width = max(map(len, rest))
    # a name with a colon has a word of the data
    shown = {name if ":" in name else name.replace("_", " "): n for name, n in rest.items()}
    lines = [f"{name:{width}}  {n:>7}" for name, n in shown.items()]
    return "\n".join([table.to_string(), "", *lines])


if __name__ == "__main__":
    main()
