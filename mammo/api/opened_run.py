"""A finished run in Python: its settings and scores, its network, and predictions on new images."""

import os
from collections.abc import Collection, Iterable
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from omegaconf import DictConfig, OmegaConf

from mammo.config.choices import OtherImage
from mammo.errors import ConfigError
from mammo.runs import RunFolder

if TYPE_CHECKING:  # these import PyTorch or pandas, which takes seconds
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mammo.data.images.display import Display
    from mammo.data.store.store_building import Settings
    from mammo.evaluation.evaluation_settings import Evaluation
    from mammo.evaluation.prediction.heat_writers import Chosen
    from mammo.evaluation.prediction.image_inputs import Image
    from mammo.evaluation.prediction.sample_inputs import InputSamples
    from mammo.evaluation.report.figure_style import Figures
    from mammo.evaluation.scoring import Scorer, Tta
    from mammo.evaluation.split_scoring import SplitName
    from mammo.models.classifier import Classifier


def open_run(folder: str | os.PathLike[str]) -> "Run":
    """Open the folder of a finished run; nothing is loaded until it is used.

    Args:
        folder: folder of the run, or `latest` for the run in `runs/` that was started last.

    Raises:
        ConfigError: the folder holds no run, or a run that has not finished.

    Example:
        >>> open_run("no/such/folder")
        Traceback (most recent call last):
        ...
        mammo.errors.ConfigError: run=no/such/folder: holds no run; give a folder with a run.json, or latest
    """
    try:
        run = RunFolder.find(os.fspath(folder), key="run")
        status = run.facts().get("status")
        if status == "finished":
            run.config()
    except (OSError, ValueError) as error:
        raise ConfigError(f"run={folder}: cannot be read ({error}); restore the folder of the run") from error
    if status != "finished":
        raise ConfigError(
            f"run={folder}: has not finished, its status is {status}; "
            f"python -m mammo.train resume={run.path} continues it"
        )
    return Run(run)


class Run:
    """A finished run.

    Attributes:
        folder: folder of the run, with the paths of its files.

    Example:
        >>> import tempfile
        >>> from mammo.api import train
        >>> place = tempfile.TemporaryDirectory()
        >>> small = ["data.patients=20", "data.height=64", "data.width=48", "model=custom_cnn"]
        >>> short = ["trainer.max_epochs=1", "trainer=cpu", "report=false", "data.workers=1"]
        >>> paths = [f"{key}={place.name}/{key}" for key in ("data.root", "data.store", "run_dir")]
        >>> run = train([*small, *short, *paths])
        >>> run.config.data.height
        64
        >>> sorted(run.metrics["score"])
        ['high', 'low', 'name', 'standard_error', 'value']
        >>> run.history["epoch"].tolist()
        [1]
        >>> import numpy as np
        >>> films = np.linspace(0, 1, 2 * 80 * 60).reshape(2, 80, 60)  # N H W
        >>> table = run.predict(films)
        >>> bool(np.allclose(table["score_BENIGN"] + table["score_MALIGNANT"], 1))
        True
        >>> run.heatmap(films[0], method="occlusion").shape
        (80, 60)
        >>> place.cleanup()
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        """Path of the folder of the run."""
        return self.folder.path

    @property
    def config(self) -> DictConfig:
        """The resolved configuration, read-only: `run.config.optim.lr`."""
        config = OmegaConf.create(self.folder.config())
        OmegaConf.set_readonly(config, True)
        return config

    @property
    def metrics(self) -> dict[str, Any]:
        """The score of the training and the metrics of the evaluations of the run's weights.

        - `score`: `name` (`val/auc`), `value`, `low` and `high` (95 % interval by patient) and
          `standard_error`, of the validation images at the best epoch; None where undefined.
        - `evaluations`: by name (`val`, `test`, `test-flips`), the content of `metrics.json` of each.
        """
        return {"score": dict(self.folder.facts()["score"]), "evaluations": self._evaluations()}

    def _evaluations(self) -> dict[str, Any]:
        from mammo.runs.provenance import Provenance, read_json, weights_digest

        found: dict[str, Any] = {}
        for file in sorted(self.folder.evaluation.glob("*/metrics.json")):
            metrics = read_json(file)
            records = Provenance.all_from(metrics.get("provenance")) if isinstance(metrics, dict) else ()
            if records and {record.weights_sha256 for record in records} == {weights_digest(self.folder)}:
                found[file.parent.name] = metrics
        return found

    @property
    def history(self) -> "pd.DataFrame":
        """One row per epoch: `epoch`, `train/loss`, `val/loss`, `train/auc`, `train/lr` and others."""
        import pandas as pd

        return pd.read_csv(self.folder.metrics)

    @property
    def figures(self) -> "Figures":
        """Matplotlib figures of `loss`, `auc` and `accuracy` by epoch."""
        from mammo.evaluation.report.figure_style import Figures
        from mammo.evaluation.report.training_curves import curve_figures

        return Figures(curve_figures(self.folder))

    @cached_property
    def network(self) -> "Classifier":
        """The network of the best epoch, an `nn.Module` on the CPU in evaluation mode.

        It takes images, B 1 H W, float in [0, 1] (H and W are `config.data.height` and `width`), normalises
        them as in training and returns logits, B C. That of breasts or exams takes B V 1 H W and, as second
        argument, which views are there, B V. A change of it does not change `predict`.
        """
        from mammo.evaluation.scoring import open_classifier

        return open_classifier(self.folder)

    @cached_property
    def _scorer(self) -> "Scorer":
        from mammo.evaluation.scoring import open_scorer

        return open_scorer(self.folder)

    @property
    def display(self) -> "Display":
        """How files are shown to the network: `read_mammogram(file, run.display)`; see `Display`."""
        return self._preparation.display

    @property
    def _preparation(self) -> "Settings":
        from mammo.evaluation.prediction.file_scoring import preparation_of

        return preparation_of(self.folder)

    def predict(
        self,
        images: "Image | Iterable[Image]",
        *,
        table: str | os.PathLike[str] | None = None,
        secondary: bool = False,
        include: Collection[str] = (),
        workers: int = 0,
        batch_size: int = 4,
    ) -> "pd.DataFrame":
        """Score images without labels, as `python -m mammo.predict` does, without writing a file.

        Each image is cropped, oriented and resized as those of the training. The scores of the same files, in
        the same batches, are those of the command, bit for bit. The files of a run of breasts or exams are
        grouped as by the command: by header, name or table.

        Args:
            images: path of a DICOM, PNG, TIFF, JPEG, BMP, WebP, JPEG 2000 or PGM file, of a folder, or a
                pattern such as `new/*.dcm`; or an array H W (N H W for several) as it is meant to be shown,
                with dark background: uint8 in 0..255, uint16 in 0..65535 or float in [0, 1]; or several of
                these. For breasts or exams files only.
            table: CSV file with `image_path`, `patient_id`, `laterality`, `view` and, optionally,
                `study_date` of the files of breasts or exams, used in place of their headers.
            secondary: whether to score the cropped images and lesion masks of CBIS-DDSM too.
            include: kinds of images to score that are left out otherwise: `spot`, `biopsy`, `specimen`,
                `synthetic`, `secondary_capture`, `other_modality`.
            workers: number of processes that decode; 0: this one.
            batch_size: number of images, breasts or exams that pass through the network together.

        Returns:
            A row for each image, in their order: `path` (missing for an array), `laterality`, `view`,
            `score_<CLASS>` (probabilities of the network), `probability` (of malignancy, calibrated on the
            validation images), `class`, `breast` (a number), `breast_score` (mean over its images) and
            `error` (why the file cannot be read). Unknown values are missing. For breasts or exams a row for
            each of them, with the columns of `SampleTable`.

        Raises:
            ConfigError: there is no such file, the run has no checkpoint, or a table for a run of images.
            DataError: an array has another shape, type or range, or is given for breasts or exams; or the
                table is invalid.
        """
        from mammo.evaluation.prediction.file_scoring import kinds_included, score_images
        from mammo.evaluation.prediction.image_inputs import list_images, only_files
        from mammo.evaluation.prediction.prediction_table import Decision, say_notes
        from mammo.evaluation.prediction.sample_inputs import group_files, grouping_of

        for key, value, least in (("workers", workers, 0), ("batch_size", batch_size, 1)):
            if value < least:
                raise ConfigError(f"{key}={value}: must be at least {least}")
        grouping = grouping_of(self.folder, table=None if table is None else os.fspath(table))
        for kind in include:
            if kind not in list(OtherImage):
                raise ConfigError(f"include={kind}: give some of {', '.join(OtherImage)}")
        kinds: dict[str, Any] = {"secondary": secondary, "include": kinds_included(self.folder, include)}
        listed = list_images(images)
        decode: dict[str, Any] = {"workers": workers, "batch_size": batch_size}
        if grouping is not None:
            found = group_files(only_files(listed, unit=grouping["unit"]), **grouping, **kinds)
            return self._predict_samples(found, **decode)
        rows = score_images(listed, scorer=self._scorer, settings=self._preparation, **kinds, **decode)
        say_notes(rows)
        return Decision.of(self.folder).frame(rows)

    def _predict_samples(self, found: "InputSamples", **decode: int) -> "pd.DataFrame":
        from mammo.data.tasks import Task
        from mammo.evaluation.prediction.prediction_table import Decision, say_notes
        from mammo.evaluation.prediction.sample_scoring import score_samples
        from mammo.evaluation.prediction.sample_table import SampleTable

        scored = score_samples(
            found,
            found.samples,
            network=lambda: (self._scorer, None),
            classes=Task.of(self.folder.config()["task"]).classes,
            settings=self._preparation,
            **decode,
        )
        rows = {row["path"]: row for batch in scored for row in batch}
        say_notes(rows.values())
        return SampleTable(found, rows.__getitem__, Decision.of(self.folder)).frame()

    def heatmap(
        self, image: "Image", *, method: "Chosen" = "auto", layer: str | None = None
    ) -> "NDArray[np.float32]":
        """Return the evidence for malignancy at each pixel of an image, as in an evaluation.

        With several malignant classes, it is that for the most likely one; for a task without a positive
        class, that for the most likely class. The network of breasts or exams sees the image at its place,
        and no other view; an evaluation shows the heat of whole breasts and exams.

        Args:
            image: path of a file, or an array H W as in `predict`; for breasts or exams a file whose header
                or name has laterality and view.
            method: `gradcam`, `gradcam++`, `layercam`, `eigencam`, `occlusion`, `map` (the network's own map)
                or `lesion` (any lesion against the background), or `auto`, which is `map` where the network
                has one, else `gradcam`.
            layer: name of a module of the network; None for the last feature map before the pooling.

        Returns:
            H W of the image, float32 in [0, 1], 0 outside the crop.

        Raises:
            ConfigError: there is no such method or layer.
            DataError: the image cannot be used, or has no place in a breast or exam.
        """
        import torch

        from mammo.data.tasks import Task
        from mammo.evaluation.explain.file_pixels import to_file_pixels
        from mammo.evaluation.prediction.heat_writers import heatmaps_of
        from mammo.evaluation.prediction.image_inputs import prepare_one
        from mammo.evaluation.prediction.sample_inputs import place_in_sample
        from mammo.evaluation.scoring import as_images

        settings = self._preparation
        size = settings.height, settings.width
        heatmaps = heatmaps_of(self._scorer.classifier, size=size, method=method, layer=layer)
        pixels, transform, row = prepare_one(image, settings=settings)
        classes = Task.of(self.folder.config()["task"]).shown
        images, present = as_images(pixels[None]), None
        if (place := place_in_sample(self.folder, row)) is not None:
            present = torch.from_numpy(place[None])
            images = images * present[0, :, None, None, None]
            images = images[None]
        scored = self._scorer.with_heat(images, heatmaps, classes=classes, present=present)
        heat = scored.heat[0] if place is None else scored.heat[0][place][0]
        return to_file_pixels(heat, transform)

    def score(
        self,
        split: "SplitName" = "val",
        *,
        tta: "Tta" = "none",
        resamples: int = 2000,
        seed: int = 0,
    ) -> "Evaluation":
        """Score a split and return its metrics, without heatmaps and without a report.

        Saved scores are used if they are of the run's current weights. `mammo.api.evaluate` writes the files
        of a whole evaluation.

        Args:
            split: `val`, `test`, `clean_test`, `train` or `all`; the test images are for the last choice.
            tta: test-time augmentation, see `mammo.evaluation.scoring.Scorer`.
            resamples: number of resamples of the patients, for the intervals.
            seed: seed of the resamples.

        Raises:
            DataError: the split has no images, or a test set has patients that the run was trained on.
        """
        from mammo.evaluation.evaluation_files import calibration_of, predictions_of
        from mammo.evaluation.evaluation_settings import Evaluation
        from mammo.evaluation.scoring import Tta
        from mammo.evaluation.split_scoring import SplitName
        from mammo.evaluation.statistics.performance import measure_performance, performance_table

        for key, value, known in (("split", split, SplitName), ("tta", tta, Tta)):
            if value not in get_args(known):
                raise ConfigError(f"{key}={value}: give one of {', '.join(get_args(known))}")
        predictions = predictions_of(self.folder, split, tta=tta)
        metrics = measure_performance(
            predictions,
            calibration=calibration_of(self.folder, tta=tta),
            resamples=resamples,
            seed=seed,
        )
        name = split if tta == "none" else f"{split}-{tta}"
        return Evaluation(predictions, metrics, performance_table(metrics), name, folder=None)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.folder.summary())}\nrun folder {escape(str(self.path))}</pre>"
