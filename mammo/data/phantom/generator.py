"""Synthetic mammograms from a seed, written once in the file layout of CBIS-DDSM.

The modules `anatomy`, `lesions` and `film` generate the images, and `release` writes the files. This module
draws the patients and runs the generation.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mammo.data.phantom.anatomy import FILM_HEIGHT_MM, View, sample_anatomy
from mammo.data.phantom.film import Laterality, expose
from mammo.data.phantom.lesions import Kind, Lesion, obscure, sample_lesion
from mammo.data.phantom.release import OfficialSplit, Release, Row, Shot
from mammo.data.progress_bar import shows_bars
from mammo.data.worker_pool import WorkerContext
from mammo.errors import ConfigError, DataError

VERSION = 1  # part of the fingerprint: raise it when the same arguments give other bytes
KINDS: tuple[Kind, ...] = ("mass", "calcification")
SIDES: tuple[OfficialSplit, ...] = ("train", "test")
LATERALITIES: tuple[Laterality, ...] = ("LEFT", "RIGHT")
VIEWS: tuple[tuple[View, ...], ...] = (("CC", "MLO"), ("MLO",), ("CC",))
# Shares of the densities 1 to 4 in the easiest and the hardest set.
DENSITY = ((0.30, 0.40, 0.20, 0.10), (0.05, 0.20, 0.40, 0.35))


@dataclass(frozen=True)
class Settings:
    """The settings that determine the bytes of the files."""

    patients: int
    height: int
    width: int
    difficulty: float
    obscured: float
    seed: int


@dataclass(frozen=True)
class Patient:
    """One patient of the release."""

    number: int  # from 1
    malignant: bool
    sets: dict[Kind, OfficialSplit]
    both_breasts: bool


def generate(
    *,
    root: Path,
    patients: int,
    height: int,
    width: int,
    difficulty: float,
    seed: int,
    workers: int,
    obscured: float = 0.0,
) -> Path:
    """Writes a set of synthetic mammograms, unless it exists, and returns its folder.

    Args:
        root: folder of all generated sets; each set is in a subfolder named by its fingerprint.
        patients: number of patients, with about 1.9 images each.
        height: rows of an image; a film is 24 cm high, so this determines the size of a pixel.
        width: columns of an image.
        difficulty: from 0 (large, bright, typical lesions) to 1 (small, faint, sometimes misleading lesions).
        seed: seed of the set; the same seed and settings give the same bytes.
        workers: number of processes, which does not change the files.
        obscured: share of the views in which dense tissue hides the lesions; drawn for each view by itself.

    Raises:
        ConfigError: a value is out of range.
        DataError: the folder cannot be written.
    """
    settings = Settings(patients, height, width, float(difficulty), float(obscured), seed)
    _check(settings)
    named = asdict(settings)
    if settings.obscured == 0:  # such a set keeps the name and the UIDs that it had before this setting
        del named["obscured"]
    canonical = json.dumps({"version": VERSION, **named}, sort_keys=True)
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    final = Path(root) / fingerprint
    if final.is_dir():
        return final
    partial_folder = final.with_name(f"{fingerprint}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial_folder.mkdir(parents=True)
        _write(release=Release(root=partial_folder, name=fingerprint), settings=settings, workers=workers)
        (partial_folder / "phantom.json").write_text(canonical + "\n")
        try:
            partial_folder.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was faster and wrote the same bytes
                raise
    except OSError as error:
        raise DataError(
            f"{final}: cannot write the synthetic mammograms ({error.strerror or error}); "
            "free disk space or choose another folder"
        ) from error
    except BrokenProcessPool as error:
        raise DataError(
            f"{final}: a process that generates synthetic mammograms was killed, perhaps for lack of memory; "
            "use a smaller data.workers"
        ) from error
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return final


def _check(settings: Settings) -> None:
    height, width = settings.height, settings.width
    if settings.patients < 20:
        raise ConfigError(
            f"data.patients={settings.patients} is too few for both classes in every split; use >= 20"
        )
    if height < 128:
        raise ConfigError(
            f"data.height times data.film_scale is {height}: too small to show a lesion; use 128 or more"
        )
    if not 0.5 <= width / height <= 1.0:
        raise ConfigError(
            f"data.width times data.film_scale is {width}: not the width of a film {height} pixels high; "
            f"use {(height + 1) // 2} to {height}"
        )
    if not 0.0 <= settings.difficulty <= 1.0:
        raise ConfigError(f"data.difficulty={settings.difficulty} is out of range; use 0 (easy) to 1 (hard)")
    if not 0.0 <= settings.obscured <= 1.0:
        raise ConfigError(
            f"data.obscured={settings.obscured} is out of range; use 0 (no view) to 1 (every view)"
        )
    if settings.seed < 0:
        raise ConfigError(f"data.seed={settings.seed} is negative; use 0 or more")


def _write(*, release: Release, settings: Settings, workers: int) -> None:
    from tqdm import tqdm

    everyone = draw_patients(patients=settings.patients, seed=settings.seed)
    write = partial(_write_patient, release=release, settings=settings)
    rows: dict[tuple[Kind, OfficialSplit], list[Row]] = {(kind, side): [] for kind in KINDS for side in SIDES}
    with ProcessPoolExecutor(max(workers, 1), mp_context=WorkerContext()) as pool:
        results = pool.map(write, everyone) if workers > 1 else map(write, everyone)
        bar = partial(tqdm, desc="phantom", unit="patient", disable=not shows_bars())
        for result in bar(results, total=len(everyone)):
            for key, lines in result:
                rows[key] += lines
    release.write_case_files(rows=rows)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limits OpenCV to one thread: the last bit of its filters depends on the number of threads."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def draw_patients(*, patients: int, seed: int) -> list[Patient]:
    """Returns the patients of a release.

    Half are malignant, half have masses and a fifth are in the official test set, in every combination. A few
    have both kinds of lesion, and some of these are in a training and a test set, as in CBIS-DDSM.
    """
    numbers = 1 + np.random.default_rng([seed, 0]).permutation(patients)
    leaked, both_kinds = (max(1, round(share * patients)) for share in (0.02, 0.05))
    both_breasts = max(3, round(0.06 * patients))  # any three in a row include both classes
    drawn: list[Patient] = []
    for rank, number in enumerate(numbers.tolist()):
        kind, malignant = KINDS[rank % 2], rank // 2 % 2 == 1
        sets: dict[Kind, OfficialSplit] = {kind: "test" if rank // 4 % 5 == 4 else "train"}
        if sets == {"mass": "train"} and leaked + both_kinds > 0:
            sets["calcification"] = "test" if leaked else "train"
            leaked, both_kinds = max(leaked - 1, 0), both_kinds - (leaked == 0)
        drawn.append(Patient(number, malignant, sets, both_breasts=rank >= patients - both_breasts))
    return sorted(drawn, key=lambda patient: patient.number)


@_one_thread()
def _write_patient(
    patient: Patient, *, release: Release, settings: Settings
) -> list[tuple[tuple[Kind, OfficialSplit], list[Row]]]:
    """Draws and writes all images of one patient; only the settings and its number determine them."""
    rng = np.random.default_rng([settings.seed, patient.number])
    easy, hard = (np.array(shares) for shares in DENSITY)
    density = 1 + int(rng.choice(4, p=easy + settings.difficulty * (hard - easy)))
    width_mm = FILM_HEIGHT_MM * settings.width / settings.height
    anatomy = sample_anatomy(density=density, width_mm=width_mm, rng=rng)
    opposite = bool(rng.random() < 0.27)
    views = VIEWS[int(rng.choice(3, p=(0.7, 0.2, 0.1)))]
    lateralities = LATERALITIES[:: int(rng.choice((1, -1)))][: 2 if patient.both_breasts else 1]
    # A generator of its own: whether a view is obscured changes nothing else of the patient.
    hidden = np.random.default_rng([settings.seed, patient.number, 1])
    written = []
    for laterality in lateralities:
        malignant = patient.malignant and laterality == lateralities[0]  # the other breast is benign
        lesions = _draw_lesions(patient=patient, malignant=malignant, difficulty=settings.difficulty, rng=rng)
        for view in VIEWS[0] if patient.both_breasts else views:
            shown = lesions
            if hidden.random() < settings.obscured:
                shown = tuple(obscure(lesion) for lesion in lesions)
            film = expose(
                anatomy=anatomy,
                lesions=shown,
                laterality=laterality,
                view=view,
                height=settings.height,
                width=settings.width,
                opposite=opposite,
                rng=rng.spawn(1)[0],
            )
            for kind, side in patient.sets.items():
                shot = Shot(kind, side, patient.number, density, laterality, view)
                written.append(((kind, side), release.write_image(film=film, lesions=shown, shot=shot)))
    return written


def _draw_lesions(
    *, patient: Patient, malignant: bool, difficulty: float, rng: np.random.Generator
) -> tuple[Lesion, ...]:
    """Returns one lesion of each kind of the patient; every tenth patient has one or two more, benign."""
    kinds = list(patient.sets)
    drawn = [(kind, malignant and (k == 0 or bool(rng.random() < 0.5))) for k, kind in enumerate(kinds)]
    if patient.number % 10 == 0:
        drawn += [(kinds[0], False)] * (2 if patient.number % 20 == 0 else 1)
    return tuple(
        sample_lesion(kind=kind, malignant=label, difficulty=difficulty, rng=rng) for kind, label in drawn
    )
