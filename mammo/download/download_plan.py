"""What a download brings: tables, patients and series of a data set, and their size."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mammo.data.sources.cbis_ddsm import kinds_of
from mammo.download.idc_series import Collection, Series, read_collection
from mammo.download.series_download import gigabytes, missing_series
from mammo.download.set_selection import select_cbis_ddsm, select_cmmd
from mammo.download.source_tables import fetch_case_files, fetch_cmmd_table, write_cases_of


@dataclass(frozen=True)
class DownloadPlan:
    """The series of a download.

    Attributes:
        root: Folder of the data set.
        collection: The collection of which they are a part.
        wanted: `patient_id` and `uid` of each series, of CBIS-DDSM also `image_id`, the image that needs it.
        series: The series.
        absent: UIDs that the index lacks.
        has_lesion_files: Whether masks or crops are among them.
    """

    root: Path
    collection: Collection
    wanted: pd.DataFrame
    series: list[Series]
    absent: list[str]
    has_lesion_files: bool

    def summary(self, missing: list[Series], free: int) -> str:
        """Return the size of the data set and of what is missing, for a person.

        Args:
            missing: Series that are not on the disk.
            free: Free bytes of the disk.
        """
        whole, left = (sum(each.size for each in part) for part in (self.series, missing))
        patients = self.wanted["patient_id"].nunique()
        lines = [
            f"{len(self.series):,} series of {patients:,} patients, {gigabytes(whole)}, "
            f"under {self.collection.licence}, doi {self.collection.doi}",
            f"to download: {len(missing):,} series, {gigabytes(left)}, into {self.root} with "
            f"{gigabytes(free)} free",
        ]
        if self.absent:
            lines.append(f"warning: the index lacks {len(self.absent):,} series that the tables name")
        return "\n".join(lines)

    def series_by_image(self) -> dict[str, list[Series]]:
        """Return the series that each image of CBIS-DDSM needs, those of its masks included."""
        known = self.collection.series
        return {
            str(image): [known[uid] for uid in uids.unique() if uid in known]
            for image, uids in self.wanted.groupby("image_id")["uid"]
        }

    def missing(self) -> list[Series]:
        """Return the series that are not whole on the disk."""
        return missing_series(self.series, self.root)


def plan_download(
    name: str,
    data: Mapping[str, Any],
    *,
    patients: int | None,
    masks: bool,
    crops: bool,
    index: Path | None,
    tables: str,
) -> DownloadPlan:
    """Choose the series of a data set, and bring its tables into `data.root`.

    The case files in `data.root` are then those of the chosen patients; the whole ones are below it.

    Args:
        name: Choice of `data`, `cbis_ddsm` or `cmmd`; the collection has the same name.
        data: Plain values of the node `data`.
        patients: Number of patients; None for all.
        masks: Whether to download the ROI masks.
        crops: Whether to download the cropped images.
        index: File of the index of series; None for the installed one.
        tables: Address of the folder of the tables.

    Raises:
        ConfigError: The index is not installed.
        DataError: A table or the index cannot be read or fetched.
    """
    root = Path(data["root"])
    collection = read_collection(name, index=index)
    if name == "cbis_ddsm":
        kinds = kinds_of(data["abnormality"])
        cases = None if data["cases"] is None else Path(data["cases"])
        whole = fetch_case_files(root, kinds, cases=cases, url=tables)
        wanted = select_cbis_ddsm(
            whole,
            abnormality=data["abnormality"],
            patients=patients,
            seed=data["seed"],
            masks=masks,
            crops=crops,
        )
        write_cases_of(root, kinds, None if patients is None else wanted["patient_id"].unique())
    else:
        table = fetch_cmmd_table(root, url=tables)
        known = [(series.patient, uid) for uid, series in collection.series.items()]
        wanted = select_cmmd(table, known, patients=patients, seed=data["seed"])
    uids = list(wanted["uid"].unique())
    return DownloadPlan(
        root=root,
        collection=collection,
        wanted=wanted,
        series=[collection.series[uid] for uid in uids if uid in collection.series],
        absent=[uid for uid in uids if uid not in collection.series],
        has_lesion_files=masks or crops,
    )
