"""The heat of a run for new images: the network, and files of heat that are of its settings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mammo.atomic_files import write_atomically
from mammo.data.tasks import Task
from mammo.errors import ConfigError
from mammo.evaluation.exams.dicom_sources import Maker
from mammo.evaluation.exams.heat_captures import HeatCaptures
from mammo.evaluation.prediction.file_scoring import preparation_of
from mammo.evaluation.prediction.heat_writers import DrawnHeat, HeatWriter, Pictures, heatmaps_of
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.runs.provenance import read_json, weights_digest

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds
    from mammo.evaluation.explain.heatmaps import Method
    from mammo.evaluation.scoring import Scorer

_SETTINGS = "heat.json"  # in each folder of files of heat


class RunHeat:
    """The network of a run and the files of its heat.

    Each folder of files has `heat.json`, the settings of the heat and the digest of the weights. Files of
    these paths that were written by other settings are removed, so that they are written again.

    Args:
        run: the run.
        root: folder that the paths are relative to.
        paths: paths of the images.
        method: see `heatmaps_of`.
        layer: see `heatmaps_of`.
        hanging: see `Pictures`.
        pictures: folder of pictures; None for none.
        captures: folder of DICOM secondary captures; None for none.

    Raises:
        ConfigError: a folder cannot be written.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        root: Path,
        paths: Sequence[str],
        method: "Method | Literal['auto']",
        layer: str | None,
        hanging: bool,
        pictures: Path | None,
        captures: Path | None,
    ) -> None:
        self.run = run
        self.task = Task.of(run.config()["task"])
        self.settings = preparation_of(run)
        self._method, self._layer = method, layer
        known = {"weights_sha256": weights_digest(run), "heatmap": str(method), "heatmap_layer": layer}
        self._wanted: dict[Path, dict[str, Any]] = {}
        self.pictures: Pictures | None = None
        self._captures: HeatCaptures | None = None
        if pictures is not None:
            self.pictures = Pictures(pictures, task=self.task, hanging=hanging)
            self._wanted[pictures] = known | {"hanging": hanging}
        if captures is not None:
            display, maker = self.settings.display, Maker.of(run)
            self._captures = HeatCaptures(captures, root=root, maker=maker, display=display, task=self.task)
            self._wanted[captures] = known
        try:
            self._remove_others(paths)
        except OSError as error:
            raise ConfigError(f"output={error.filename}: cannot be written: {error.strerror}") from error

    @property
    def writers(self) -> list[HeatWriter]:
        """Writers of the heat."""
        return [writer for writer in (self.pictures, self._captures) if writer is not None]

    @property
    def method(self) -> str:
        """Method of the heat of the written files; `heat` if there is none yet."""
        found = (read_json(folder / _SETTINGS) for folder in self._wanted)
        return next((str(each["method"]) for each in found if each and each.get("method")), "heat")

    def is_written(self, path: str) -> bool:
        """Return whether the files of an image exist, or there can be none."""
        return all(writer.is_written(path) for writer in self.writers)

    def network(self) -> "tuple[Scorer, DrawnHeat | None]":
        """Open the network of the run and, where files of heat are wanted, what writes them."""
        with quick_imports():
            from mammo.evaluation.scoring import open_scorer

        scorer = open_scorer(self.run)
        if not self.writers:
            return scorer, None
        size = self.settings.height, self.settings.width
        heatmaps = heatmaps_of(scorer.classifier, size=size, method=self._method, layer=self._layer)
        for folder, wanted in self._wanted.items():
            self._record(folder, wanted | {"method": heatmaps.method})
        if self._captures is not None:
            layer = "" if self._layer is None else f" of {self._layer}"
            self._captures.method = heatmaps.method + layer
        return scorer, DrawnHeat(heatmaps, self.task, self.writers)

    def _remove_others(self, paths: Sequence[str]) -> None:
        for writer, (folder, wanted) in zip(self.writers, self._wanted.items(), strict=True):
            found = read_json(folder / _SETTINGS)
            if isinstance(found, dict) and {key: found.get(key) for key in wanted} == wanted:
                continue
            for path in paths:
                writer.file_of(path).unlink(missing_ok=True)
            self._record(folder, wanted)

    @staticmethod
    def _record(folder: Path, settings: dict[str, Any]) -> None:
        write_atomically(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")
