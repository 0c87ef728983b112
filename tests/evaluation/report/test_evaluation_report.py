"""The report as a file, and in a browser."""

import base64
import html
import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.cohorts import four_classes, predictions, several_views
from helpers.pages import Browser, Outline

from mammo.errors import DataError
from mammo.evaluation.explain.localisation_scores import METHOD
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.report.report_content import data_pictures, image_name, public, settings
from mammo.evaluation.statistics.calibration import fit_calibration
from mammo.evaluation.statistics.performance import measure_performance
from mammo.runs import RunFolder

IMAGES = 645
SCRIPT = "P<script>alert('patient')</script>"
UID = "1.3.6.1.4.1.9590.100.1.2.342386194811267636608694132590482924515"
CONFIG = {
    "name": "cbis_ddsm-resnet18",
    "run_dir": "/data/secret/runs/a",
    "seed": 3,
    "data": {
        "_target_": "mammo.data.sources.cbis_ddsm.read_cbis_ddsm",
        "root": "/data/secret/CBIS-DDSM",
        "split": "clean",
        "seed": 0,
        "height": 1152,
        "width": 896,
        "sample": [500, 100, 100],
    },
    "task": {"name": "pathology"},
    "model": {"name": "resnet18", "weights": "/data/secret/imagenet.pth", "pretrained": False},
    "trainer": {"accelerator": "auto"},
}
FACTS = {
    "status": "finished",
    "score": {"name": "val/auc", "value": 0.81, "low": 0.77, "high": 0.85, "standard_error": 0.02},
    "seconds": 7512.3,
    "epochs": 3,
    "seed": 3,
    "started": "2026-11-20T10:00:00.000+00:00",
    "host": "node7",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"torch": "2.15.0"},
    "store": "/data/secret/store",
    "overrides": ["data=cbis_ddsm", "data.root=/data/secret/CBIS-DDSM", "optim.lr=1e-3"],
}


def full_size(task: str) -> Predictions:
    """645 images; the first patient's id is a script, the second image's id a path with a UID."""
    make = predictions if task == "pathology" else four_classes
    found = make(np.random.default_rng(4), patients=400).take(np.arange(IMAGES))
    table = found.table.copy()
    table.loc[0, "patient_id"] = SCRIPT
    table.loc[1, "image_id"] = f"DOE_JANE/{UID}"
    return Predictions(table, found.task, found.source)


def bare_run(folder: Path, given: Predictions, *, split: str) -> tuple[RunFolder, Path]:
    """A run with `config.yaml`, `run.json` and the predictions of a split, and nothing else."""
    evaluation = folder / "evaluation" / split
    evaluation.mkdir(parents=True)
    data = CONFIG["data"] | {"sample_unit": given.unit, "views": None}
    (folder / "config.yaml").write_text(
        yaml.safe_dump(CONFIG | {"task": {"name": given.task.name}, "data": data})
    )
    (folder / "run.json").write_text(json.dumps(FACTS))
    given.table.to_csv(evaluation / "predictions.csv", index=False)
    return RunFolder(folder), evaluation


def whole_run(folder: Path, given: Predictions, *, split: str) -> tuple[RunFolder, Path]:
    """A run with everything a report can show."""
    run, evaluation = bare_run(folder, given, split=split)
    epochs = {"epoch": [1, 2, 3]}
    for side, name in itertools.product(("train", "val"), ("loss", "auc", "accuracy")):
        epochs[f"{side}/{name}"] = [0.5, 0.7, 0.6]
    pd.DataFrame(epochs).to_csv(run.metrics, index=False)
    (folder / "split").mkdir()
    for number, side in enumerate(("train", "val", "test")):
        (folder / "split" / f"{side}.txt").write_text("".join(f"{side}{i}\n" for i in range(9 + number)))
    found = measure_performance(given, calibration=fit_calibration(given), resamples=50)
    share = {"value": 0.41, "low": 0.3, "high": 0.5}
    method = {"pointing": share, "iou": share, "heat_inside": None, "froc": {"0.25": share, "1": share}}
    counts = {"images": 600, "with_lesions": 290, "lesions": 300, "left_out": 45}
    found["localisation"] = {
        "malignant": {"gradcam": method},
        "all": {"gradcam": method},
        "counts": {"malignant": counts, "all": {**counts, "left_out": 37}},
        "method": METHOD,
    }
    (evaluation / "metrics.json").write_text(json.dumps(found))
    (evaluation / "heatmaps").mkdir()
    entries = []
    for row in range(0, 40, 2):
        name = f"heatmaps/{row}.jpg"
        grey = cv2.GaussianBlur(np.random.default_rng(row).normal(120, 400, (700, 500)), (0, 0), 9)
        cv2.imwrite(str(evaluation / name), np.clip(grey, 0, 255).astype(np.uint8))
        image = given.table.iloc[row]
        key = "image_id" if given.unit == "image" else "sample_id"  # as in older galleries
        entries.append(
            {
                key: image[key],
                "picture": name,
                "reason": "surest false positive" if row % 4 else "nearest to the threshold",
                "label": image["label"],
                "score": 0.25,
            }
        )
    entries.append({"image_id": "gone", "picture": "heatmaps/gone.jpg", "reason": "gone"})
    entries.append({"image_id": "out", "picture": "../../config.yaml", "reason": "gone"})
    (evaluation / "heatmaps" / "gallery.json").write_text(json.dumps(entries))
    return run, evaluation


@pytest.fixture(scope="module", params=["pathology", "lesion_type_pathology"])
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 645 test images with all its parts."""
    run, evaluation = whole_run(tmp_path_factory.mktemp("whole"), full_size(task), split="test")
    return write_report([run], folder=evaluation)


@pytest.fixture(scope="module", params=["breast", "exam"])
def of_views(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the breasts or exams of 60 patients with all its parts."""
    given = several_views(predictions(np.random.default_rng(4), patients=60), unit=request.param)
    run, evaluation = whole_run(tmp_path_factory.mktemp(request.param), given, split="test")
    return write_report([run], folder=evaluation)


@pytest.fixture(scope="module")
def bare(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 645 validation images with nothing but their scores."""
    run, evaluation = bare_run(tmp_path_factory.mktemp("bare"), full_size(task), split="val")
    return write_report([run], folder=evaluation)


@pytest.mark.slow
def test_everything_stands_in_one_file_of_moderate_size(whole: Path) -> None:
    page = whole.read_text()
    outline = Outline(page)
    assert whole.stat().st_size < 10e6
    assert all(name.startswith(("#", "data:image/jpeg;base64,")) for name in outline.named)
    assert sum(name.startswith("data:") for name in outline.named) == 20
    assert not re.search(r"https?:|@import|//[a-z]", re.sub(r"base64,[\w+/=]*", "", page))
    assert re.findall(r"url\((?!#)", page) == []
    assert outline.scripts == 1


@pytest.mark.slow
def test_headings_links_and_pictures_are_fit_to_be_heard(whole: Path) -> None:
    outline = Outline(whole.read_text())
    assert len(set(outline.ids)) == len(outline.ids)
    targets = {name[1:] for name in outline.named if name.startswith("#")}
    assert targets <= set(outline.ids)
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(outline.levels))
    assert outline.without_text == 0


@pytest.mark.slow
def test_what_comes_from_data_is_text(whole: Path, bare: Path) -> None:
    for file in (whole, bare):
        page = file.read_text()
        assert "<script>alert" not in page
        assert html.escape(SCRIPT, quote=False) in page.replace("&#39;", "'")
        assert SCRIPT in "".join(Outline(page).words)


@pytest.mark.slow
def test_no_path_no_uid_no_name_of_a_folder(whole: Path) -> None:
    page = whole.read_text()
    assert "secret" not in page
    assert "DOE_JANE" not in page
    assert UID not in page
    assert str(whole.parent) not in page
    assert "imagenet.pth" in page


@pytest.mark.slow
def test_units_split_and_date_stand_with_the_numbers(whole: Path) -> None:
    text = " ".join("".join(Outline(whole.read_text()).words).split())
    assert "by image, on the test split" in text
    assert "645 images" in text
    assert "before the test split was opened" in text
    assert "Validation scores are optimistic" not in text
    assert "No image is in two of the lists" in text
    assert "training 9, validation 10, test 11 images" in text
    assert "2 h 5 min" in text
    assert re.search(r"Written on \d+ \w+ 20\d\d", text)
    assert "0.410 0.300 to 0.500" in text
    for section in ("Localisation", "Subgroups", "Model card", "CLAIM 2024 checklist", "gradcam"):
        assert section in text


def test_every_figure_and_table_says_how_it_is_computed(whole: Path, bare: Path) -> None:
    for file in (whole, bare):
        page = file.read_text()
        blocks = re.findall(r"<(?:figure|table)\b[^>]*>", page)
        assert len(blocks) == page.count("<figure") + page.count("<table") >= 8
        for block in blocks:
            described = re.search(r'aria-describedby="(how-\w+)"', block)
            assert described, block
            texts = re.findall(rf'class="how" id="{described[1]}">([^<]*)<', page)
            assert len(texts) == 1, block
            assert len(texts[0]) > 30
            assert "{" not in texts[0]


def test_the_page_describes_the_data_of_the_training(whole: Path) -> None:
    page = whole.read_text()
    assert "CBIS-DDSM (Lee et al. 2017" in page
    assert "Trained on scanned film" in page


def test_the_page_says_what_a_lesion_is_and_which_images_are_left_out(whole: Path) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", "", whole.read_text()))
    assert f"Lesion: {METHOD['lesion']}." in page
    assert f"Mark: {METHOD['mark']}." in page
    assert "37 images without a drawn lesion, or with one that is not drawn, are left out." in page
    assert "From the scores of malignant lesions, 45 images are left out" in page


@pytest.mark.slow
def test_a_report_of_breasts_or_exams_speaks_of_them(of_views: Path) -> None:
    table = pd.read_csv(of_views.parent / "predictions.csv")
    unit, page = table["unit"][0], of_views.read_text()
    text = " ".join("".join(Outline(page).words).split())
    number, malignant = len(table), int((table["label"] == "MALIGNANT").sum())
    images, patients = table["image_id"].str.count(";").sum() + number, table["patient_id"].nunique()
    assert f"{number} {unit}s ({images} images), {malignant} of them malignant, of {patients} pat" in text
    assert f"malignant against benign, by {unit}, on the test split" in text
    assert f"report of the test {unit}s" in text
    assert f"Every {unit}" in text
    assert f"of the {number} test {unit}s at every threshold" in text
    assert f"means over those of the {images} test images that have a drawn lesion" in text
    assert f"{number} {unit}s ({images} images) of {patients} patients were scored" in text
    assert f"in {number} {unit}s" in (of_views.parent / "figures" / "flow.svg").read_text()
    assert f'alt="Heatmap on the views of {unit} {table["sample_id"][0]}, ' in page
    assert f"{unit}s shown`" in page
    article = {"breast": "A breast", "exam": "An exam"}[unit]
    assert f"{article} is classified as malignant at a score of" in text
    units = {"breast": "breast and patient", "exam": "exam, breast and patient"}[unit]
    assert f"By {units} Malignant" in text
    seen = {"breast": "one breast (CC, MLO)", "exam": "both breasts (left CC, left MLO, right CC, right MLO)"}
    assert f"The input is the existing views of {seen[unit]}, each of 1152 x 896 pixels." in text
    for words in (
        "by image",
        "By image",
        "An image is",
        "Every image The",
        "images at every",
        "images shown",
    ):
        assert words not in text


def test_the_table_of_a_report_has_the_scores_of_the_views(of_views: Path) -> None:
    table = pd.read_csv(of_views.parent / "predictions.csv")
    given = table["unit"][0] == "exam"
    sides = ("LEFT", "RIGHT")
    places = (
        [*(f"{side}_{view}" for side in sides for view in ("CC", "MLO")), *sides] if given else ["CC", "MLO"]
    )
    page = re.search(r'<table id="predictions".*?</table>', of_views.read_text(), re.DOTALL)
    assert page is not None
    titles = re.findall(r'<button type="button">(.*?)</button>', page[0])
    assert "View" not in titles
    names = [place.replace("LEFT", "Left").replace("RIGHT", "Right").replace("_", " ") for place in places]
    at = titles.index(names[0])
    assert titles[at : at + len(names)] == names
    for row, cells in zip(
        table.itertuples(), re.findall(r"<tr id=.*?</tr>", page[0], re.DOTALL), strict=True
    ):
        values = re.findall(r"<td[^>]*>(.*?)</td>", cells)
        assert int(values[titles.index("Images")]) == row.image_id.count(";") + 1
        for name, place in zip(names, places, strict=True):
            score = getattr(row, f"score_MALIGNANT_{place}")
            assert values[titles.index(name)] == ("–" if np.isnan(score) else f"{score:.3f}")


def test_without_the_optional_parts_they_are_left_out(bare: Path) -> None:
    text = " ".join("".join(Outline(bare.read_text()).words).split())
    assert "Validation scores are optimistic" in text
    assert "No operating threshold is recorded" in text
    assert "There is no metrics.json beside the predictions" in text
    for absent in ("Localisation", "Heatmaps", "Curves", "Leak check"):
        assert absent not in text.replace("Heatmaps against", "")
    assert "AUC 0." in text


@pytest.mark.slow
def test_figures_are_written_as_png_and_svg(whole: Path, bare: Path, task: str) -> None:
    def names(file: Path) -> set[str]:
        found = sorted((file.parent / "figures").iterdir())
        assert {path.suffix for path in found} == {".png", ".svg"}
        for path in found:
            assert path.stat().st_size > 2000
            if path.suffix == ".png":
                assert cv2.imread(str(path)).std() > 5
            else:
                assert "<svg" in path.read_text()
        pngs = {path.stem for path in found if path.suffix == ".png"}
        assert pngs == {path.stem for path in found if path.suffix == ".svg"}
        return pngs

    scores = {
        "flow", "roc", "precision_recall", "reliability", "calibration_curve", "decision_curve", "histogram",
    }  # fmt: skip
    four = {"confusion_classes"} if task == "lesion_type_pathology" else set()
    assert names(whole) == scores | {"confusion", "subgroups", "froc"} | four
    assert names(bare) == scores | four
    curves = whole.parent.parent.parent / "figures"
    assert {path.name for path in curves.iterdir()} == {"loss.png", "auc.png", "accuracy.png"}


def test_images_of_one_class_have_a_report(tmp_path: Path) -> None:
    given = predictions(np.random.default_rng(1), patients=20)
    run, evaluation = bare_run(tmp_path, given.take(given.malignant == 0), split="val-flips")
    found = measure_performance(given.take(given.malignant == 0), calibration=None, resamples=20)
    unknown = {"pointing": None, "iou": None, "heat_inside": None, "froc": {"0.25": {"value": None}}}
    counts = {"images": 40, "with_lesions": 0, "lesions": 0, "left_out": 40}
    found["localisation"] = {"malignant": {"gradcam": unknown}, "all": {"gradcam": unknown}, "method": METHOD}
    found["localisation"]["counts"] = {"malignant": counts, "all": counts}
    (evaluation / "metrics.json").write_text(json.dumps(found))
    page = write_report([run], folder=evaluation).read_text()
    assert not list((evaluation / "figures").glob("froc.*"))  # no lesion is drawn
    text = " ".join("".join(Outline(page).words).split())
    assert "The AUC is undefined: the validation (flips) images are all of one class" in text
    assert "metrics that compare classes are undefined" in text
    assert "Rule: 0.5, not calibrated" in text


def test_an_image_on_two_sides_is_told(tmp_path: Path) -> None:
    run, evaluation = bare_run(tmp_path, predictions(np.random.default_rng(1), patients=9), split="train")
    (tmp_path / "split").mkdir()
    for side in ("train", "val"):
        (tmp_path / "split" / f"{side}.txt").write_text(f"both\n{side}\n")
    page = write_report([run], folder=evaluation).read_text()
    assert "1 images are in more than one of the lists" in page
    assert "were not compared with those of the training and validation set" in page


@pytest.mark.parametrize(("text", "kind"), [("{", "is not valid JSON"), ("[]", "does not contain a dict")])
def test_damaged_metrics_are_refused(tmp_path: Path, text: str, kind: str) -> None:
    run, evaluation = bare_run(tmp_path, predictions(np.random.default_rng(1), patients=9), split="val")
    (evaluation / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=rf"metrics\.json: {kind}"):
        write_report([run], folder=evaluation)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/x.csv: 3 of 10 images", "(path left out): 3 of 10 images"),
        (r"C:\Users\eve\x.csv and \\server\share", "(path left out) and (path left out)"),
        ("data.root=~/eve", "data.root=(path left out)"),
        ("[/a,/b]", "[(path left out),(path left out)]"),
        ("</script> and/or 1 / 2", "</script> and/or 1 / 2"),
        ("runs/a, optim.lr=1e-3, torch 2.15.0", "runs/a, optim.lr=1e-3, torch 2.15.0"),
    ],
)
def test_paths_are_left_out(text: str, shown: str) -> None:
    assert public(text) == shown


def test_uids_stay_apart_without_being_told() -> None:
    one, other = public(f"x {UID}"), public(f"x {UID}7")
    assert one != other
    assert re.fullmatch(r"x UID-[0-9a-f]{8}", one)
    assert image_name(f"a/b\\{UID}") == UID


def test_settings_hide_paths_and_keep_the_rest() -> None:
    assert dict(settings(CONFIG))["data.sample"] == "[500, 100, 100]"
    assert dict(settings(CONFIG))["model.weights"] == "imagenet.pth"
    names = {"columns": {"view": "position", "age": None}, "labels": {"NORMAL": None}}
    assert dict(settings({"data": names})) == {"data.columns.view": "position"}
    assert dict(settings({"data": {"root": "relative/folder", "cases": None}})) == {
        "data.root": "(path left out)",
        "data.cases": "null",
    }


def test_many_pictures_are_made_smaller_until_they_fit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 600), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    found = data_pictures([tmp_path / "a.png"] * 50)
    assert all(found)
    assert sum(map(len, map(str, found))) < 8e6
    first = cv2.imdecode(np.frombuffer(base64.b64decode(str(found[0]).partition(",")[2]), np.uint8), 0)
    assert max(first.shape) < 640


ROWS = "[...document.querySelectorAll('#predictions tbody tr')].filter((row) => !row.hidden)"
SCORES = (
    f"{ROWS}.map((row) => Number(row.querySelector('[data-value]:not([data-value=\"\"])').dataset.value))"
)


@pytest.mark.slow
def test_a_browser_sorts_filters_and_asks_nothing_of_a_network(whole: Path, browser: Browser) -> None:
    browser.open(whole)
    given = pd.read_csv(whole.parent / "predictions.csv")
    malignancy = given[[name for name in given if name.startswith("score_MALIGNANT")]].sum(axis=1)
    assert browser.run(f"{ROWS}.length") == IMAGES

    # by keyboard alone: the button has the focus, enter presses it
    heading = (
        "[...document.querySelectorAll('th')].find((cell) => cell.textContent === 'Score of malignancy')"
    )
    for key in (("Enter", 13, "\r"), (" ", 32, " ")):
        browser.run(f"{heading}.querySelector('button').focus()")
        browser.press(*key)
        ascending = key[0] == "Enter"
        assert browser.run(f"{heading}.getAttribute('aria-sort')") == (
            "ascending" if ascending else "descending"
        )
        np.testing.assert_allclose(
            browser.run(SCORES), malignancy.sort_values(ascending=ascending), atol=1e-12
        )

    wanted = given["patient_id"].iloc[100]
    browser.run("document.getElementById('filter-text').focus()")
    browser.ask("Input.insertText", text=f"{wanted.lower()} cc")
    expected = given[(given["patient_id"] == wanted) & (given["view"] == "CC")]
    assert browser.run(f"{ROWS}.length") == len(expected)
    assert browser.run("document.getElementById('filter-status').textContent") == (
        f"{len(expected)} of {IMAGES} images shown"
    )
    browser.run("document.querySelector('#filters button').click()")
    browser.run("new Promise((done) => setTimeout(done, 20))")
    assert browser.run(f"{ROWS}.length") == IMAGES

    browser.run(
        "(() => { const list = document.getElementById('filter-outcome'); list.value = 'missed';"
        " list.dispatchEvent(new Event('change')); })()"
    )
    missed = browser.run(f"{ROWS}.map((row) => row.querySelector('.outcome').textContent)")
    assert set(missed) == {"missed"}
    # the link of a picture leads to its row, even if the row was filtered out
    browser.run("document.querySelector('a.to-row').click()")
    assert browser.run(f"{ROWS}.length") == IMAGES

    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelector('[id=row-1]').textContent").count(SCRIPT) == 1
    assert browser.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [whole.as_uri()]
    noise = (
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
        "Log.entryAdded",
        "Page.javascriptDialogOpening",
    )
    assert [event for event in browser.events if event["method"] in noise] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_is_no_wider_than_the_window(whole: Path, browser: Browser, width: int) -> None:
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
    )
    browser.open(whole)
    assert browser.run("document.documentElement.scrollWidth") <= width
    # what is wider says so, and its caption is not
    wider = (
        "[...document.querySelectorAll('.scroll')]"
        ".filter((each) => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1)"
    )
    browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert browser.run(f"{wider}.every((each) => each.classList.contains('more'))")
    assert browser.run("document.querySelector('[aria-label=\"Flow of images\"].more') !== null") == (
        width < 500
    )
    lefts = [
        browser.run(f"document.querySelector('{place}').getBoundingClientRect().left")
        for place in ("#data .figures", "#data h3")
    ]
    assert lefts[0] == lefts[1]
    # a note below the name of a row is no tall column of single words
    notes = "[...document.querySelectorAll('.scroll th[scope=row] .meaning')]"
    seen = f"{notes}.filter((each) => each.checkVisibility())"
    widths = browser.run(f"{seen}.map((each) => each.closest('th').getBoundingClientRect().width)")
    assert min(widths) > 120
    captions = "[...document.querySelectorAll('caption')].filter((each) => each.checkVisibility())"
    assert browser.run(f"Math.max(...{captions}.map((each) => each.getBoundingClientRect().right))") <= width
    browser.ask("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
def test_the_page_is_readable_without_scripts(whole: Path, browser: Browser) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(whole)
    document = browser.ask("DOM.getDocument")["root"]["nodeId"]
    rows = browser.ask("DOM.querySelectorAll", nodeId=document, selector="#predictions tbody tr")["nodeIds"]
    assert len(rows) == IMAGES
    assert browser.ask("DOM.querySelectorAll", nodeId=document, selector="#filters[hidden]")["nodeIds"]
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(whole: Path, browser: Browser, scheme: str) -> None:
    """WCAG 2.2 requires a contrast of 4.5 to 1."""
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(whole)

    def luminance(colour: str) -> float:
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def colour(selector: str, name: str) -> str:
        return str(browser.run(f"getComputedStyle(document.querySelector({selector!r})).{name}"))

    page = colour("body", "backgroundColor")
    for selector in ("p", ".quiet", "a", ".meaning", "figcaption"):
        light, dark = sorted((luminance(colour(selector, "color")), luminance(page)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector
    browser.ask("Emulation.setEmulatedMedia", features=[])
