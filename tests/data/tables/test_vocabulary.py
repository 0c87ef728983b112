"""The words of tables and their meaning."""

from pathlib import Path

import pandas as pd
import pytest
from pydicom.sr.codedict import codes

from mammo.config.choices import View
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import assessments, densities, diagnoses, pathologies, places
from mammo.errors import DataError

# views of DICOM PS3.16, context group 4014, by the keyword of their code
GROUP_4014 = {
    "CaudoCranial": "FB",
    "CranioCaudal": "CC",
    "CranioCaudalExaggeratedLaterally": "XCCL",
    "CranioCaudalExaggeratedMedially": "XCCM",
    "InferomedialToSuperolateralOblique": "ISO",
    "LateroMedial": "LM",
    "LateroMedialOblique": "LMO",
    "MedioLateralObliqueProjection": "MLO",
    "MedioLateralProjection": "ML",
    "SuperolateralToInferomedialOblique": "SIO",
}


def table(**columns: list[str | None]) -> TextTable:
    cells = pd.DataFrame(columns, dtype="string")
    return TextTable(Path("t.csv"), cells.set_axis(range(2, len(cells) + 2)))


def test_every_view_of_the_context_group_of_dicom() -> None:
    group = codes.cid4014
    assert set(group.dir()) - {"TissueSpecimenFromBreast"} == set(GROUP_4014)  # no mammogram of a breast
    for keyword, view in GROUP_4014.items():
        meaning = getattr(group, keyword).meaning
        spellings = [meaning, meaning.replace("-", ""), meaning.title().replace("-", " "), view, view.lower()]
        found = places(table(view=spellings), laterality="laterality", view="view")[1]
        assert found.tolist() == [view] * len(spellings), meaning


@pytest.mark.parametrize(
    ("word", "side", "view"),
    [
        ("LCC", "LEFT", "CC"),
        ("R_MLO", "RIGHT", "MLO"),
        ("right cc", "RIGHT", "CC"),
        ("MLO-R", "RIGHT", "MLO"),
        ("LMLO", "LEFT", "MLO"),
        ("LMO", None, "LMO"),  # latero-medial oblique, not a left one
        ("LLMO", "LEFT", "LMO"),
        ("LM", None, "LM"),
        ("RM", None, "RM"),
        ("L AT", "LEFT", "AT"),
        ("RXCCL", "RIGHT", "XCCL"),
        ("left medio-lateral oblique", "LEFT", "MLO"),
        ("Craniocaudal R", "RIGHT", "CC"),
        ("unknown", None, None),
    ],
)
def test_a_word_may_name_side_and_view(word: str, side: str | None, view: str | None) -> None:
    sides, views = places(table(v=[word]), laterality="l", view="v")
    assert (sides.fillna("").item(), views.fillna("").item()) == (side or "", view or "")


def test_every_view_stands_for_itself() -> None:
    views = [each.value for each in View]
    sides, found = places(table(v=[*views, *(f"L {view}" for view in views)]), laterality="l", view="v")
    assert found.tolist() == views * 2
    assert sides.isna().sum() == (sides == "LEFT").sum() == len(views)


def test_sides_that_differ_are_refused() -> None:
    given = table(l=["L", "left", None, "Rt"], v=["LCC", "CC", "RCC", "R_CC"])
    assert places(given, laterality="l", view="v")[0].tolist() == ["LEFT", "LEFT", "RIGHT", "RIGHT"]
    with pytest.raises(DataError, match=r"row 2: v 'RCC' is of the other side than l 'LEFT'; correct one"):
        places(table(l=["L"], v=["RCC"]), laterality="l", view="v")
    for word in ("LAT", "AP", "L"):
        with pytest.raises(DataError, match=rf"row 2: v '{word}' is not one of CC, MLO, .*, alone or with a"):
            places(table(v=[word]), laterality="l", view="v")


def test_labels() -> None:
    words = ["B", "m", "benign", "Malignant", "NORMAL", "0", "1.0", "True", "FALSE", "cancer", "no", "pos"]
    found = diagnoses(table(a=words), "a")
    assert pathologies(found).tolist() == [
        *["BENIGN", "MALIGNANT", "BENIGN", "MALIGNANT", "BENIGN", "BENIGN"],
        *["MALIGNANT", "MALIGNANT", "BENIGN", "MALIGNANT", "BENIGN", "MALIGNANT"],
    ]
    assert found[6] == "NORMAL"
    for word in ("2", "N", "susp", "BIRADS 4"):  # nothing that may mean two things
        with pytest.raises(DataError, match=rf"row 2: a '{word}' is not one of BENIGN, MALIGNANT, NORMAL"):
            diagnoses(table(a=[word]), "a")


def test_own_labels_replace_the_usual_ones() -> None:
    own = {"MALIGNANT": ["4", "5"], "BENIGN": ["2"]}
    assert diagnoses(table(a=["4", "2.0", "normal"]), "a", own=own).tolist() == [
        "MALIGNANT",
        "BENIGN",
        "NORMAL",
    ]
    with pytest.raises(DataError, match=r"row 3: a '1' is not one of 4, 5, 2 \(nor are '0'\); correct it"):
        diagnoses(table(a=["4", "1", "0"]), "a", own=own)


def test_grades() -> None:
    words = ["C", "DENSITY C", "3", "3.0", "ACR 3", "iii", "BI-RADS: c", "0", "unknown"]
    assert densities(table(a=words), "a").fillna(-1).tolist() == [3] * 7 + [-1] * 2
    words = ["4", "BI-RADS 4", "4a", "BIRADS_4C", "4.0", "0", "6"]
    assert assessments(table(a=words), "a").fillna(-1).tolist() == [4] * 5 + [-1, 6]
    with pytest.raises(DataError, match=r"row 2: a 'E' is not a grade from 1 to 4; correct it or leave it"):
        densities(table(a=["E"]), "a")
    with pytest.raises(DataError, match=r"row 2: a '2.5' is not a grade from 1 to 6"):
        assessments(table(a=["2.5"]), "a")
