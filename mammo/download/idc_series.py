"""The series of a collection of the Imaging Data Commons, from the index that its client brings."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo.errors import ConfigError, DataError

_COLUMNS = (
    *("collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("instanceCount", "series_size_MB", "series_aws_url", "license_short_name", "source_DOI"),
)


@dataclass(frozen=True)
class Series:
    """A series of DICOM files.

    Attributes:
        uid: SeriesInstanceUID.
        patient: PatientID of its headers; of CBIS-DDSM the name of a case, not of a patient.
        folder: Folder below `data.root`, in the layout of the Imaging Data Commons.
        source: Pattern of its objects, `s3://bucket/folder/*`.
        files: Number of files.
        size: Bytes of all files.
    """

    uid: str
    patient: str
    folder: str
    source: str
    files: int
    size: int

    def problem(self, folder: Path) -> str | None:
        """Return how the files of a folder differ from those of the series; None for the whole series."""
        sizes = [file.stat().st_size for file in folder.glob("*.dcm")]
        if len(sizes) != self.files:
            return f"{len(sizes)} of {self.files} files came"
        if sum(sizes) != self.size:
            return f"its files have {sum(sizes):,} bytes, and {self.size:,} in the index"
        return None


@dataclass(frozen=True)
class Collection:
    """The series of a collection, and under which licence it is.

    Attributes:
        series: Series by SeriesInstanceUID.
        licence: Names of the licences of its series.
        doi: DOIs of the sources of its series.
    """

    series: dict[str, Series]
    licence: str
    doi: str


def read_collection(name: str, *, index: Path | None = None) -> Collection:
    """Read the series of a collection from an index of the Imaging Data Commons.

    Args:
        name: `collection_id` of the collection.
        index: Parquet or CSV file with the columns of `idc_index`; by default that of the package
            `idc-index-data`.

    Raises:
        ConfigError: The package is not installed.
        DataError: The index cannot be read, or lacks the collection.
    """
    file = index or _shipped_index()
    try:
        if file.suffix.lower() == ".csv":
            table = pd.read_csv(file, usecols=list(_COLUMNS), dtype="string")
        else:
            table = pd.read_parquet(
                file, columns=list(_COLUMNS), filters=[("collection_id", "==", name)]
            ).astype("string")
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"index={file}: is no index of the Imaging Data Commons ({reason}); give a Parquet or CSV file "
            "with the columns of idc_index"
        ) from error
    table = table[table["collection_id"] == name]
    if table.empty:
        raise DataError(f"index={file}: has no series of the collection {name}; give another index")
    series = {
        uid: Series(
            uid=uid,
            patient=patient,
            folder=f"{name}/{patient}/{study}/{modality}_{uid}",
            source=source,
            files=int(files),
            size=round(float(megabytes) * 1e6),  # exact to the byte
        )
        for _, patient, study, uid, modality, files, megabytes, source, _, _ in table[
            list(_COLUMNS)
        ].itertuples(index=False)
    }
    licences, dois = table["license_short_name"].dropna(), table["source_DOI"].dropna()
    return Collection(series, licence=", ".join(licences.unique()), doi=", ".join(dois.unique()))


def _shipped_index() -> Path:
    # its import would read schemas of tables that are not needed
    package = importlib.util.find_spec("idc_index_data")
    if package is None or package.origin is None:
        raise ConfigError(
            "data: the index of the Imaging Data Commons is not installed; run pip install 'mammo[download]'"
        )
    return Path(package.origin).parent / "idc_index.parquet"
