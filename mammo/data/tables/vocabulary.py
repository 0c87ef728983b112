"""The words that tables use for pathology, laterality, view, density and assessment, and their meaning."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from mammo.config.choices import View
from mammo.data.tables.table_files import shown
from mammo.data.tables.text_table import TextTable, word_key

# Diagnoses and the pathology of each.
DIAGNOSES = {
    "NORMAL": "BENIGN",
    "BENIGN": "BENIGN",
    "BENIGN_WITHOUT_CALLBACK": "BENIGN",
    "MALIGNANT": "MALIGNANT",
}
_DIAGNOSIS_WORDS = {
    **{word: word for word in DIAGNOSES},
    **dict.fromkeys(("B", "NEGATIVE", "NEG", "NO", "FALSE", "0"), "BENIGN"),
    **dict.fromkeys(("M", "CANCER", "CANCEROUS", "POSITIVE", "POS", "YES", "TRUE", "1"), "MALIGNANT"),
}
_UNKNOWN = ("UNKNOWN", "UNK", "NONE")
_SIDE_WORDS: dict[str, str | None] = {
    **{
        f"{word}{breast}": side
        for side, letter in (("LEFT", "L"), ("RIGHT", "R"))
        for word in (side, letter, f"{letter}T")
        for breast in ("", "_BREAST")
    },
    **dict.fromkeys(_UNKNOWN),
}
# Meanings of the codes of DICOM PS3.16, context groups 4014 (views) and 4015 (modifiers).
VIEW_NAMES = {
    "cranio caudal": View.CC,
    "medio lateral oblique": View.MLO,
    "medio lateral": View.ML,
    "medial lateral": View.ML,
    "latero medial": View.LM,
    "latero medial oblique": View.LMO,
    "caudo cranial": View.FB,
    "caudo cranial from below": View.FB,
    "from below": View.FB,
    "superolateral to inferomedial oblique": View.SIO,
    "inferomedial to superolateral oblique": View.ISO,
    "cranio caudal exaggerated": View.XCC,
    "exaggerated cranio caudal": View.XCC,
    "cranio caudal exaggerated laterally": View.XCCL,
    "exaggerated cranio caudal laterally": View.XCCL,
    "cranio caudal exaggerated medially": View.XCCM,
    "exaggerated cranio caudal medially": View.XCCM,
    "cleavage": View.CV,
    "axillary tail": View.AT,
    "axillary tissue": View.AX,
    "rolled lateral": View.RL,
    "rolled medial": View.RM,
    "rolled inferior": View.RI,
    "rolled superior": View.RS,
    "tangential": View.TAN,
    "nipple in profile": View.NP,
    "infra mammary fold": View.IMF,
    "implant displaced": View.ID,
}
# With these a side needs no separator; `LAT` is a lateral view, not the axillary tail of the left breast.
_JOINED = ("CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL", "XCCM", "FB", "SIO", "ISO")
_GRADE_NAMES = re.compile(r"BREAST|DENSITY|BI_?RADS|ACR|CATEGORY|TYPE|GRADE|CLASS")
_DENSITY_WORDS = {
    **{letter: grade for grade, letter in enumerate("ABCD", start=1)},
    **{numeral: grade for grade, numeral in enumerate(("I", "II", "III", "IV"), start=1)},
    **dict.fromkeys(_UNKNOWN),
}
_ASSESSMENT_WORDS = {"4A": 4, "4B": 4, "4C": 4, **dict.fromkeys(_UNKNOWN)}


def _view_words() -> dict[str, tuple[str | None, str] | None]:
    """Return each word for a view -> its laterality, if it names one, and view."""
    words: dict[str, tuple[str | None, str]] = {}
    for spoken, named in VIEW_NAMES.items():
        first, _, rest = spoken.upper().partition(" ")
        for separator in ("_", ""):  # cranio-caudal, craniocaudal
            word = re.sub("(CRANIO|CAUDO|MEDIO|MEDIAL|LATERO|INFRA)_", rf"\1{separator}", f"{first}_{rest}")
            words[word.replace(" ", "_").strip("_")] = (None, named.value)
    words |= {word.replace("_", ""): meaning for word, meaning in words.items()}
    words |= {each.value: (None, each.value) for each in View}
    for name, (_, view) in list(words.items()):
        for word, side in _SIDE_WORDS.items():
            if side is not None:
                words[f"{word}_{name}"] = words[f"{name}_{word}"] = (side, view)
    for view in _JOINED:
        for letter, side in (("L", "LEFT"), ("R", "RIGHT")):
            words.setdefault(f"{letter}{view}", (side, view))  # `LMO` is a view
    return words | dict.fromkeys(_UNKNOWN)


_VIEW_WORDS = _view_words()


def diagnoses(
    table: TextTable,
    name: str,
    *,
    own: Mapping[str, Sequence[str]] | None = None,
    required: bool = False,
    remedy: str = "delete the row",
) -> "pd.Series[str]":
    """Return a column of labels as diagnoses, the keys of `DIAGNOSES`, which has the pathology of each.

    Args:
        table: The table.
        name: Name of the column.
        own: Diagnosis -> its words in the column; these and the names of the diagnoses are then the only ones
            that are understood.
        required: Whether an empty cell is an error.
        remedy: Advice of the error message for an unknown word.

    Raises:
        DataError: A cell holds an unknown word, or none.
    """
    words, known = _DIAGNOSIS_WORDS, "one of BENIGN, MALIGNANT, NORMAL, B, M, 0, 1, TRUE, FALSE or alike"
    if own:
        given = {word_key(word): diagnosis for diagnosis, listed in own.items() for word in listed}
        words, known = (
            {**{word: word for word in DIAGNOSES}, **given},
            f"one of {shown(', '.join(given), most=100)}",
        )
    return table.words(name, words, known=known, required=required, remedy=remedy)


def pathologies(diagnosis: "pd.Series[str]") -> "pd.Series[str]":
    """Return the pathology of diagnoses, BENIGN or MALIGNANT."""
    return diagnosis.map(DIAGNOSES).astype("string")


def lateralities(table: TextTable, name: str, *, required: bool = False) -> "pd.Series[str]":
    """Return a column of sides as LEFT and RIGHT; raises DataError for other words."""
    return table.words(name, _SIDE_WORDS, known="one of LEFT, RIGHT, L, R", required=required)


def places(table: TextTable, *, laterality: str, view: str) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Return lateralities and views; a word for a view may name the side too, as `LCC` and `R_MLO` do.

    Args:
        table: The table.
        laterality: Name of the column of the sides, which may be absent.
        view: Name of the column of the views, which may be absent.

    Raises:
        DataError: A cell holds an unknown word, or the two columns name different sides.
    """
    forms = {word: str(index) for index, word in enumerate(_VIEW_WORDS)}
    known = f"one of {', '.join(View)}, alone or with a side as in LCC and R_MLO"
    meaning = list(_VIEW_WORDS.values())
    numbers = table.words(view, {**forms, **dict.fromkeys(_UNKNOWN)}, known=known)
    found = numbers.map(lambda number: meaning[int(number)], na_action="ignore")
    named = found.map(lambda place: place[0], na_action="ignore").astype("string")
    views = found.map(lambda place: place[1], na_action="ignore").astype("string")
    sides = lateralities(table, laterality)
    differ = (sides != named).fillna(value=False)
    if differ.any():
        row = differ.index[differ][0]
        cell = shown(table.cells[view][row])
        problem = f"{view} '{cell}' is of the other side than {laterality} '{sides[row]}'"
        raise table.refuse(row, f"{problem}; correct one of them")
    return sides.fillna(named), views


def densities(table: TextTable, name: str) -> "pd.Series[int]":
    """Return a column of densities as 1 to 4; understands A to D, I to IV, `DENSITY C` and `ACR 3`."""
    return table.grades(name, highest=4, words=_DENSITY_WORDS, key=_grade_key)


def assessments(table: TextTable, name: str) -> "pd.Series[int]":
    """Return a column of BI-RADS assessments as 1 to 6; understands `BI-RADS 4` and `4a`."""
    return table.grades(name, highest=6, words=_ASSESSMENT_WORDS, key=_grade_key)


def _grade_key(word: str) -> str:
    """Return a grade without the names of the scale.

    Example:
        >>> _grade_key("BI-RADS 4a"), _grade_key("Density C"), _grade_key("2.0")
        ('4A', 'C', '2')
    """
    return word_key(_GRADE_NAMES.sub("", word_key(word)).replace("_", " "))
