"""Content of a report: settings and names without private parts, figures, pictures, table of samples."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from mammo.config.flattening import flatten
from mammo.data.samples import SIDES
from mammo.evaluation.explain.gallery_choice import WORST
from mammo.evaluation.predictions import PLACES, Predictions
from mammo.evaluation.report.figure_style import readable
from mammo.evaluation.report.html_page import TEMPLATES, render_page

# Maximum size of all pictures in bytes, before base64, which adds a third.
_PICTURES_BYTES = 5_500_000
# Longest side in pixels and JPEG quality, tried in this order until the pictures fit.
_PICTURE_SIZES = ((640, 85), (480, 80), (360, 75), (256, 70), (192, 60))
_LEFT_OUT = "(path left out)"
# A path follows a bracket, quote, equals sign or space, so `</script>` does not match.
_PATH = re.compile(r"(?<![^\s=\[,'\"(:])(?:~?/(?=[^\s/])|[A-Za-z]:[\\/]|\\\\)[^\s,;:\]'\")]*")
_UID = re.compile(r"\b[0-2](?:\.\d+){5,}\b")
_COLUMNS = {
    "laterality": "Side",
    "view": "View",
    "density": "Density",
    "abnormality_type": "Type",
    "subtlety": "Subtlety",
    "assessment": "Assessment",
    "fold": "Fold",
}
_OUTCOMES = {(0, 0): "correct", (1, 1): "correct", (0, 1): "false alarm", (1, 0): "missed"}
_NAMES = ("data.columns.", "data.labels.")
_PATH_KEYS = {"root", "store", "table", "lesions", "cases", "split_file", "run_dir", "resume"}


def render(context: Mapping[str, Any]) -> str:
    """Render the page as HTML; every text of the context is passed through `public` and escaped."""
    return render_page(
        TEMPLATES / "report.html.j2",
        context,
        script=TEMPLATES / "report.js",
        finalize=lambda value: public(value) if type(value) is str else value,
        readable=readable,
        listed=listed,
        at=at,
        calibration_name=calibration_name,
    )


def calibration_name(method: str | None) -> str | None:
    """Return the name of `Calibration.method`, as in a sentence."""
    return "Platt" if method == "platt" else method


def public(text: str) -> str:
    """Return a text without the paths of the computer and with a short hash for each DICOM UID.

    Example:
        >>> public("data.root=/home/eve/exams, 3 images")
        'data.root=(path left out), 3 images'
    """
    if "/" in text or "\\" in text:
        text = _PATH.sub(_LEFT_OUT, text)
    return _UID.sub(lambda uid: f"UID-{hashlib.sha256(uid[0].encode()).hexdigest()[:8]}", text)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence.

    Example:
        >>> listed(["image", "breast", "patient"])
        'image, breast and patient'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def image_name(image_id: str) -> str:
    """Return the last part of an image's id, because an id that is a path contains names of folders."""
    return re.split(r"[/\\]", image_id)[-1] or image_id


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of the config with their values, without paths; of weights only the file name.

    Names of columns and words of diagnoses are left out if they are the usual ones, that is, null.
    """
    usual = [name for name, value in flatten(config).items() if value is None and name.startswith(_NAMES)]
    return [(name, _setting(name, value)) for name, value in flatten(config).items() if name not in usual]


def override(text: str) -> str:
    """Return one `key=value` of the command line, without paths."""
    name, sign, value = text.partition("=")
    return f"{name}{sign}{_setting(name, value)}"


def _setting(name: str, value: Any) -> str:
    if value in (None, "", "null"):
        return "null"
    text = value if isinstance(value, str) else json.dumps(value)
    last = name.lstrip("+~").rpartition(".")[2]
    if last == "weights":
        return Path(text).name
    return _LEFT_OUT if last in _PATH_KEYS or _PATH.match(text) else public(text)


def at(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted key, or None if it is missing."""
    found: Any = config
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def inline_svg(svg: str, *, name: str, text: str) -> Markup:
    """Return a figure for the page, with unique ids, the page's text colour and a text for screen readers.

    Args:
        svg: result of `svg_text`.
        name: name of the figure, prefix of every id in it.
        text: description of the figure.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", body)
    body = body.replace("#000000", "currentColor").replace("#0072b2", "var(--blue, #0072b2)")
    body = re.sub(r"\n\s*", "\n", body)
    size = re.search(r'viewBox="[^"]*"', body)
    opening = f'<svg {size[0] if size else ""} role="img" aria-label="{html.escape(text)}" focusable="false">'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, body, count=1))


def data_pictures(files: list[Path], *, aspect: float | None = None) -> list[Markup | None]:
    """Return pictures as data URIs, at the largest size at which all of them fit the page.

    A picture is None if it cannot be read or does not fit at the smallest size. The pictures are encoded
    again, which removes the metadata of the files.

    Args:
        files: files of the pictures.
        aspect: height of what is shown of each picture, from its top, divided by its width; None for all.
    """
    images = [_pixels(file) for file in files]
    if aspect is not None:
        images = [None if image is None else image[: round(image.shape[1] * aspect)] for image in images]
    encoded: list[bytes | None] = []
    for longest, quality in _PICTURE_SIZES:
        encoded = [None if image is None else _jpeg(image, longest, quality) for image in images]
        if sum(len(data) for data in encoded if data) <= _PICTURES_BYTES:
            break
    left = _PICTURES_BYTES
    found: list[Markup | None] = []
    for data in encoded:
        left -= len(data or b"")
        if data is None or left < 0:
            found.append(None)
        else:
            found.append(Markup(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"))
    return found


def _pixels(file: Path) -> NDArray[Any] | None:
    data = np.fromfile(file, np.uint8) if file.is_file() else np.empty(0, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None


def _jpeg(image: NDArray[Any], longest: int, quality: int) -> bytes:
    scale = longest / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def read_gallery(
    folder: Path, entries: Sequence[Mapping[str, Any]], samples: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the pictures of a gallery, each with the content of its caption.

    Args:
        folder: folder of the evaluation.
        entries: content of `heatmaps/gallery.json`.
        samples: ids of the samples, in the order of the table.
    """
    rows = {name: number for number, name in enumerate(samples, start=1)}
    shown = [entry for entry in entries if entry.get("picture")]
    files = [(folder / str(entry["picture"])).resolve() for entry in shown]
    # pictures outside the folder of the evaluation are not shown
    inside = [file if file.is_relative_to(folder.resolve()) else Path("/nowhere") for file in files]
    pictures = data_pictures(inside)
    return [
        {
            "id": f"picture-{number}",
            "name": image_name(str(_sample_of(entry))),
            "row": rows.get(_sample_of(entry)),
            "reason": str(entry.get("reason") or "Examples"),
            "label": entry.get("label"),
            "score": entry.get("score"),
            "said": entry.get("said") or "score",
            "crops": bool(entry.get("crops")),
            "views": entry.get("views", 1),
            "hanging": bool(entry.get("hanging")),
            "beside": None if beside is None else beside | {"name": image_name(str(_sample_of(beside)))},
            "data": picture,
        }
        for number, (entry, picture) in enumerate(zip(shown, pictures, strict=True), start=1)
        for beside in [entry.get("beside")]
    ]


def shown_in(gallery: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Return what is in any of the pictures, for their legend."""
    return {
        "crops": any(entry["crops"] for entry in gallery),
        "beside": any(entry["beside"] for entry in gallery),
        "several": any(entry["views"] > 1 for entry in gallery),
        "hanging": any(entry["hanging"] for entry in gallery),
    }


def _sample_of(entry: Mapping[str, Any]) -> Any:
    """Return the sample of a picture; older galleries are of images."""
    return entry.get("sample_id", entry.get("image_id", ""))


def by_reason(gallery: list[dict[str, Any]], *, errors: bool) -> dict[str, list[dict[str, Any]]]:
    """Group the pictures by reason, in the order in which the reasons first occur.

    Args:
        gallery: pictures, see `read_gallery`.
        errors: whether to return the worst errors, or all other pictures.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in gallery:
        if (entry["reason"] == WORST) == errors:
            groups.setdefault(entry["reason"], []).append(entry)
    return groups


def of_samples(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metrics of the samples, which are images where `metrics.json` does not say it."""
    return metrics.get(metrics.get("unit", "image")) or {}


def images_table(
    predictions: Predictions, threshold: float | None, gallery: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return columns and rows of the table of samples, without the columns that have no values.

    Args:
        predictions: predictions of the samples.
        threshold: lowest score that is classified as positive; None if there is none.
        gallery: pictures, each with the `row` of its sample, its `id` and its `data`.
    """
    shown: dict[str, tuple[str, Sequence[Any]]] = {
        "number": ("No.", range(1, 1 + len(predictions.samples))),
        "image": (predictions.unit.capitalize(), [image_name(name) for name in predictions.samples]),
        "patient": ("Patient", predictions.patients.tolist()),
    }
    several = predictions.unit in ("breast", "exam")
    if several:
        shown["images"] = ("Images", (predictions.table["image_id"].str.count(";") + 1).tolist())
    for name, title in _COLUMNS.items():
        values = predictions.table[name]
        if values.notna().any() and not (several and name == "view"):
            shown[name] = (title, [None if pd.isna(value) else _tidy(value) for value in values])
    shown["truth"] = ("Truth", [readable(predictions.classes[index]) for index in predictions.labels])
    task, highest = predictions.task, predictions.scores.argmax(axis=1)
    if task.positive:
        shown["score"] = (task.words["score"].capitalize(), predictions.malignancy.tolist())
        shown |= {f"score_{place}": (_place(place), scores) for place, scores in _of_parts(predictions)}
    else:
        shown["score"] = ("Highest score", predictions.scores.max(axis=1).tolist())
    if len(predictions.classes) > 2 or not task.positive:
        shown["called"] = ("Highest class", [readable(predictions.classes[index]) for index in highest])
    outcomes: list[str] = []
    if not task.positive:
        outcomes = ["correct" if right else "wrong" for right in (highest == predictions.labels).tolist()]
        shown["outcome"] = ("Outcome", outcomes)
    elif threshold is not None:
        called = (predictions.malignancy >= threshold).astype(int)
        outcomes = [_OUTCOMES[pair] for pair in zip(predictions.malignant.tolist(), called, strict=True)]
        shown["outcome"] = ("At threshold", outcomes)
    pictures = {entry["row"]: entry["id"] for entry in gallery if entry["data"]}
    columns = [(key, title) for key, (title, _) in shown.items()]
    rows = list(zip(*(values for _, values in shown.values()), strict=True))
    return {
        "columns": columns,
        "rows": [dict(zip(shown, row, strict=True)) | {"picture": pictures.get(row[0])} for row in rows],
        "outcomes": [name for name in ("correct", "missed", "false alarm", "wrong") if name in outcomes],
        "pictures": bool(pictures),
        "parts": [title for key, (title, _) in shown.items() if key.startswith("score_")],
    }


def _of_parts(predictions: Predictions) -> Iterator[tuple[str, list[float | None]]]:
    """Yield each view or side that has scores of its own, with them; None where it is missing."""
    for place in PLACES:
        scores = predictions.part(place)
        if scores is not None:
            yield place, [None if math.isnan(score) else score for score in scores.tolist()]


def _place(place: str) -> str:
    """Return the title of a view or side.

    Example:
        >>> _place("LEFT_MLO")
        'Left MLO'
    """
    return " ".join(word.capitalize() if word in SIDES else word for word in place.split("_"))


def _tidy(value: Any) -> Any:
    """Return a text as `readable` does, and an integral number as an integer."""
    if isinstance(value, str):
        return readable(value)
    return int(value) if float(value).is_integer() else float(value)
