"""The code that a process runs: its commit, and the digests of the files that it imported."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import mammo

FROZEN_COMMIT = "COMMIT"  # file beside `mammo/` with the commit of a copy of the code

_PACKAGE = Path(mammo.__file__).resolve().parent
_INSTALLED = ("site-packages", "dist-packages")  # folders of installed packages


def imported_code() -> dict[str, Any]:
    """Return the version of the code that this process imported.

    Returns:
        `commit`, as `git_commit`; `sha256`, the digest of the package's files; `own_modules`, the digest of
        each imported module outside this package, Python's library and the installed packages.
    """
    return {
        "commit": git_commit(),
        "sha256": folder_digest(_PACKAGE),
        "own_modules": {name: file_digest(file) for name, file in sorted(_own_modules().items())},
    }


def folder_digest(package: Path) -> str:
    """Return the SHA-256 of the names and contents of a package's files.

    The configuration inside an installed package does not count, because a checkout has it elsewhere.
    """
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        name = file.relative_to(package)
        if name.parts[0] != "conf" and "__pycache__" not in name.parts and file.is_file():
            digest.update(f"{name.as_posix()} {file_digest(file)}\n".encode())
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def git_commit() -> str | None:
    """Return the commit of the code; None outside a checkout.

    It ends with `-dirty` if a file of the package or of `conf` differs from the commit or is not part of it.
    """
    checkout = _PACKAGE.parent
    if (frozen := checkout / FROZEN_COMMIT).exists():
        return frozen.read_text() or None
    if not (checkout / ".git").exists():  # else git reports the commit of an outer repository
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        changes = _git(checkout, "status", "--porcelain", "--", "mammo", "conf")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changes else commit


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    answer = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=10, check=True)
    return answer.stdout.strip()


def _own_modules() -> dict[str, Path]:
    library = os.path.realpath(sysconfig.get_path("stdlib"))
    foreign: dict[str, bool] = {}  # by folder, because a process imports thousands of modules
    own = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name == "__main__" or name.partition(".")[0] == "mammo":
            continue
        folder = os.path.dirname(file)
        if folder not in foreign:
            place = os.path.realpath(folder)
            installed = not set(_INSTALLED).isdisjoint(place.split(os.sep))
            foreign[folder] = installed or f"{place}{os.sep}".startswith(f"{library}{os.sep}")
        if not foreign[folder] and os.path.isfile(file):
            own[name] = Path(file).resolve()
    return own
