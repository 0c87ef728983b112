"""A page with a few prepared images, so that wrong polarity, contrast or orientation are seen at a glance."""

import base64
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from mammo.atomic_files import write_atomically
from mammo.data.inspection.file_survey import FileFacts
from mammo.data.store.store_building import ImageJob, Settings, prepare_image
from mammo.errors import DataError

IMAGES = 16
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class SheetImage:
    """An image of the sheet: path in the common folder, caption, data URL, and whether it is suspicious."""

    name: str
    caption: str
    url: str
    suspicious: bool


def chosen_files(files: Sequence[FileFacts], count: int = IMAGES) -> list[FileFacts]:
    """Return the files to show: at most half of them suspicious, the others evenly from each kind of file."""
    usable = [file for file in files if file.error is None]
    chosen = _evenly([file for file in usable if file.bright_background], count // 2)
    kinds: defaultdict[str, list[FileFacts]] = defaultdict(list)
    for file in usable:
        if not file.bright_background:
            kinds[file.kind].append(file)
    groups = sorted(kinds.values(), key=len)
    for place, group in enumerate(groups):
        chosen += _evenly(group, (count - len(chosen)) // (len(groups) - place))
    return chosen


def _evenly(files: Sequence[FileFacts], count: int) -> list[FileFacts]:
    if len(files) <= count:
        return list(files)
    return [files[number * len(files) // count] for number in range(count)]


def write_sheet(
    path: Path,
    files: Sequence[FileFacts],
    *,
    settings: Settings,
    warnings: Sequence[str],
    labels: Mapping[Path, str],
) -> None:
    """Write the page, one file with all its pictures in it.

    Args:
        path: File of the page.
        files: Facts of all files.
        settings: Settings with which the images are prepared.
        warnings: Sentences that stand at the top.
        labels: Label of a file, where it has one.

    Raises:
        DataError: The page cannot be written.
    """
    images = []
    chosen = chosen_files(files)
    folders = [file.path.absolute().parent for file in chosen]
    shared = Path(os.path.commonpath(folders)) if chosen else Path()
    for file in chosen:
        try:
            url = _picture(file.path, settings)
        except DataError:  # it was readable a moment before
            continue
        known = [file.properties.get(name, "none") for name in ("laterality", "view")]
        caption = [file.kind, *(word for word in known if word != "none"), labels.get(file.path, "")]
        images.append(
            SheetImage(
                str(file.path.absolute().relative_to(shared)),
                ", ".join(filter(None, caption)),
                url,
                file.bright_background,
            )
        )
    template = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True).get_template(
        "contact_sheet.html.j2"
    )
    page = template.render(images=images, warnings=warnings, count=len(files), folder=shared)
    try:
        write_atomically(path, page)
    except OSError as error:
        raise DataError(f"sheet={path}: cannot be written ({error.strerror}); name another file") from error


def _picture(path: Path, settings: Settings) -> str:
    import cv2

    pixels, _, _ = prepare_image(ImageJob(str(path), path, ()), settings)
    eight_bits = (pixels // 257).astype("uint8") if pixels.dtype == "uint16" else pixels
    _, encoded = cv2.imencode(".jpg", eight_bits, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
