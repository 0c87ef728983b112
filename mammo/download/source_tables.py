"""The tables of a data set that the Imaging Data Commons does not have, from the source of the collection."""

import contextlib
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mammo.data.sources.cbis_ddsm import case_files
from mammo.data.sources.public.cmmd import TABLES as CMMD_TABLES
from mammo.data.sources.public.set_files import find_table
from mammo.data.tables.text_table import TextTable
from mammo.errors import DataError

ALL_CASES = "all_cases"  # folder of the whole case files; those of the downloaded patients are beside it
_SECONDS = 60
_GIVE_CASES = "give data.cases=DIR with the case files"


def fetch_case_files(root: Path, kinds: Iterable[str], *, cases: Path | None, url: str) -> Path:
    """Return the folder of the whole case files of CBIS-DDSM below `root`; fetch those that are missing.

    Args:
        root: Folder of the data set.
        kinds: Lesion types, `mass` and `calc`.
        cases: Folder that has the case files; None to look in `root` and above, and else at `url`.
        url: Address of the folder of the case files.

    Raises:
        DataError: A file is in none of the places, or is no case file.
    """
    folder = root / ALL_CASES
    folder.mkdir(exist_ok=True)
    if cases is not None and cases.resolve() in (root.resolve(), root.resolve() / "csv"):
        cases = None  # these may be cut already, and the whole ones are in `folder`
    above = root.absolute().parent
    for kind in kinds:
        for name in case_files(kind):
            places = _with_csv(cases) if cases else [folder, *_with_csv(root, above)]
            found = next((place / name for place in places if (place / name).is_file()), None)
            if found is None and cases is not None:
                raise DataError(f"data.cases={cases}: no case file {name}; name the folder of the case files")
            if found is None:
                _fetch(url, folder / name, check=_require_cases, remedy=_GIVE_CASES)
            elif found.parent != folder:
                shutil.copyfile(found, folder / name)
    return folder


def _with_csv(*folders: Path) -> list[Path]:
    """Return the places where a reader of CBIS-DDSM looks for case files."""
    return [place for folder in folders for place in (folder, folder / "csv")]


def write_cases_of(root: Path, kinds: Iterable[str], patients: Iterable[str] | None) -> None:
    """Write the case files of `root`, with the rows of some patients, so that it is a data set of its own.

    Args:
        root: Folder of the data set, with the whole case files in `all_cases`.
        kinds: Lesion types, `mass` and `calc`.
        patients: Patients; None for all.
    """
    chosen = None if patients is None else list(patients)
    for kind in kinds:
        for name in case_files(kind):
            whole = root / ALL_CASES / name
            with _draft_folder(root) as folder:
                if chosen is None:
                    shutil.copyfile(whole, folder / name)
                else:
                    table = TextTable.read(whole)
                    table.cells[table.text("patient_id").isin(chosen)].to_csv(folder / name, index=False)
                (folder / name).replace(root / name)


def fetch_cmmd_table(root: Path, *, url: str) -> Path:
    """Return the table of CMMD; fetch it if it is missing.

    Raises:
        DataError: It cannot be fetched, or is no table of CMMD.
    """
    with contextlib.suppress(DataError):
        return find_table(root, *CMMD_TABLES)
    name = CMMD_TABLES[0]
    _fetch(url, root / name, check=_require_breasts, remedy=f"put {name} into data.root")
    return root / name


def _require_cases(file: Path) -> None:
    TextTable.read(file).require("patient_id", "pathology", "image_file_path")


def _require_breasts(file: Path) -> None:
    TextTable.read(file).require("id1", "leftright", "classification")


def _fetch(url: str, file: Path, *, check: Callable[[Path], None], remedy: str) -> None:
    """Fetch a file from a folder at an address; it gets its name when it is whole and passes the check."""
    address = f"{url.rstrip('/')}/{file.name}"
    # some servers refuse the name of Python's own client
    request = urllib.request.Request(address, headers={"User-Agent": "mammo"})
    with _draft_folder(file.parent) as folder:
        draft = folder / file.name
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer, draft.open("wb") as target:
                shutil.copyfileobj(answer, target)
            check(draft)
        except urllib.error.HTTPError as error:
            raise DataError(f"{address}: the server answers {error.code} {error.reason}; {remedy}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise DataError(
                f"{address}: cannot be reached ({reason}); connect to the network, or {remedy}"
            ) from error
        except DataError as error:
            raise DataError(f"{address}: is not the table of the data set; {remedy}") from error
        draft.replace(file)


@contextlib.contextmanager
def _draft_folder(root: Path) -> Iterator[Path]:
    """Context manager: a hidden folder in which a file is written under its own name."""
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
        yield Path(folder)
