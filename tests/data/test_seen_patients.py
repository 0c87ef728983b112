"""Patients whom a run has seen, in other data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mammo.data import seen_patients
from mammo.data.seen_patients import Seen, count_seen


def images(*ids: str, of: str = "") -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"{of}i{n}" for n in ids], "patient_id": [f"{of}p{n[0]}" for n in ids]})


@pytest.mark.parametrize(("trained", "scored"), [("inbreast/", ""), ("", "inbreast/"), ("", "")])
def test_a_set_alone_and_in_a_combination_has_the_same_patients(
    trained: str, scored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pd.concat([images("11", "12", "21", of=trained), images("11", of="cmmd/")], ignore_index=True)
    monkeypatch.setattr(seen_patients, "_own_table", lambda run: known)
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train.txt").write_text(f"{trained}i11\n")
    (tmp_path / "split" / "val.txt").write_text(f"{trained}i21\n")
    run: Any = SimpleNamespace(path=tmp_path)
    table = images("12", "21", "31", of=scored)
    assert count_seen(run, table, table=table, own=False) == Seen(1, 1, 1, 1)
    other = images("91", of="rsna/")
    assert count_seen(run, other, table=other, own=False) is None
