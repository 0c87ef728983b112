"""Small releases like CBIS-DDSM: case files with their oddities, file trees in every layout."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT_UID = "1.3.6.1.4.1.9590.100.1.2"
COLUMNS = {
    "mass": ["mass shape", "mass margins"],
    "calc": ["calc type", "calc distribution"],
}


@dataclass(frozen=True)
class File:
    """One file of the release, with its names in the case file."""

    case: str
    study: str
    series: str
    name: str
    description: str  # of the series
    number: int  # in the series, from 1

    @property
    def named(self) -> str:
        return f"{self.case}/{self.study}/{self.series}/{self.name}"


@dataclass(frozen=True)
class Lesion:
    """One row of a case file."""

    kind: str
    split: str
    patient: str
    side: str
    view: str
    number: int
    pathology: str
    density: str = "2"
    assessment: str = "4"
    subtlety: str = "3"
    shared: bool = True  # crop and mask in one series

    @property
    def case(self) -> str:
        split = {"train": "Training", "test": "Test"}[self.split]
        return f"{self.kind.capitalize()}-{split}_{self.patient}_{self.side}_{self.view}"

    def _uid(self, what: str) -> str:
        text = f"{self.case}{'' if what.startswith('image') else self.number}{what}"
        return f"{ROOT_UID}.{int.from_bytes(text.encode()[::-1], 'big') % 10**38 + 10**38}"

    @property
    def image(self) -> File:
        study, series = self._uid("image study"), self._uid("image series")
        return File(self.case, study, series, "000000.dcm", "full mammogram images", 1)

    @property
    def crop(self) -> File:
        case, study = f"{self.case}_{self.number}", self._uid("crop study")
        return File(case, study, self._uid("crop series"), "000000.dcm", "cropped images", 1)

    @property
    def mask(self) -> File:
        if not self.shared:
            case, study = f"{self.case}_{self.number}", self._uid("mask study")
            return File(case, study, self._uid("mask series"), "000000.dcm", "ROI mask images", 1)
        crop = self.crop
        return File(crop.case, crop.study, crop.series, "000001.dcm", crop.description, 2)


LESIONS = [
    Lesion("mass", "train", "P_00001", "LEFT", "CC", 1, "BENIGN", subtlety="5", assessment="0"),
    Lesion("mass", "train", "P_00001", "LEFT", "CC", 2, "MALIGNANT", subtlety="2", assessment="3"),
    Lesion(
        "mass", "train", "P_00001", "LEFT", "MLO", 1, "BENIGN_WITHOUT_CALLBACK", density="0", subtlety="0"
    ),
    Lesion("mass", "train", "P_00002", "RIGHT", "CC", 1, "BENIGN"),
    Lesion("calc", "train", "P_00002", "RIGHT", "CC", 1, "MALIGNANT", shared=False),
    Lesion("calc", "train", "P_00003", "LEFT", "CC", 1, "BENIGN"),
    Lesion("mass", "test", "P_00003", "LEFT", "CC", 1, "MALIGNANT"),
    Lesion("calc", "test", "P_00004", "LEFT", "MLO", 1, "MALIGNANT", shared=False),
    Lesion("mass", "test", "P_00005", "RIGHT", "MLO", 1, "BENIGN"),
]


def files(lesions: list[Lesion]) -> list[File]:
    return list(dict.fromkeys(file for row in lesions for file in (row.image, row.crop, row.mask)))


def as_named(file: File) -> str:
    return file.named


def descriptive(file: File, *, number: str = "1.000000", study: str = "10-04-2016-DDSM-NA") -> str:
    series = f"{number}-{file.description}-{file.series[-5:]}"
    return f"CBIS-DDSM/{file.case}/{study}-{file.study[-5:]}/{series}/1-{file.number}.dcm"


def older(file: File) -> str:
    return descriptive(file, number="1", study="10-04-2016-DDSM").replace(
        f"/1-{file.number}.dcm", f"/{file.number - 1:06d}.dcm"
    )


LAYOUTS: dict[str, Callable[[File], str]] = {
    "as_named": as_named,
    "nbia_uid": lambda f: f"CBIS-DDSM/{f.case}/{f.study}/{f.series}/1-{f.number}.dcm",
    "nbia_uid_two_digits": lambda f: f"CBIS-DDSM/{f.case}/{f.study}/{f.series}/1-{f.number:02d}.dcm",
    "nbia_uid_high_number": lambda f: f"CBIS-DDSM/{f.case}/{f.study}/{f.series}/1-{281 + f.number}.dcm",
    "nbia_descriptive": descriptive,
    "nbia_descriptive_without_na": lambda f: descriptive(f, study="10-04-2016-DDSM"),
    "older_nbia": older,
    "kaggle_jpeg": lambda f: f"jpeg/{f.series}/{f.number}-00{f.number}.jpg",
    "imaging_data_commons": lambda f: f"cbis_ddsm/{f.case}/{f.study}/MG_{f.series}/{f.number}f0a.dcm",
}


def write_cases(folder: Path, lesions: list[Lesion], *, path: Callable[[File], str] = as_named) -> None:
    """Write the four case files; `path` returns the name of a file in them."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, attributes in COLUMNS.items():
        for split in ("train", "test"):
            density = {"mass": "breast_density", "calc": "breast density"}[kind]
            header = ["patient_id", density, "left or right breast", "image view", "abnormality id"]
            header += ["abnormality type", *attributes, "assessment", "pathology", "subtlety"]
            header += ["image file path", "cropped image file path", "ROI mask file path"]
            with (folder / f"{kind}_case_description_{split}_set.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                for row in lesions:
                    if (row.kind, row.split) == (kind, split):
                        crop, mask = path(row.crop), path(row.mask)
                        writer.writerow(
                            [row.patient, row.density, row.side, row.view, row.number]
                            + [{"mass": "mass", "calc": "calcification"}[kind], "ROUND", "N/A"]
                            + [row.assessment, row.pathology, row.subtlety, path(row.image)]
                            + ([crop, mask + "\n"] if kind == "mass" else [crop + "\n", mask])
                        )


def write_tree(folder: Path, listed: list[File], layout: Callable[[File], str]) -> None:
    """Write the files; each contains its name in the case files."""
    for file in listed:
        path = folder / layout(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.named)
