"""The data source of the node `data`: one of this package, or a function of the user."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.trees import LESIONS, write_cases

from mammo.data.catalog import Catalog
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.sources.reader import check_source, read_catalog, source_name
from mammo.errors import ConfigError, DataError, MammoError

CBIS = "mammo.data.sources.cbis_ddsm.read_cbis_ddsm"


def read_two(*, root: Path, height: int, count: int = 2) -> Catalog:
    """Two images of the height of the prepared ones."""
    images = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(count)], "patient_id": "p", "path": Path("a.png")}
    )
    images["pathology"] = "BENIGN"
    return Catalog(images=images.assign(density=height), lesions=pd.DataFrame())


def read_raises(*, root: Path) -> Catalog:
    raise KeyError(root)


def read_list() -> Catalog:
    return []  # type: ignore[return-value]


def read_words() -> Catalog:
    return read_two(root=Path(), height="many")  # type: ignore[arg-type]


def node(target: Any, **keys: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{target}" if isinstance(target, str) else target, **keys}


def test_the_catalog_is_that_of_the_function(tmp_path: Path) -> None:
    """So that the fingerprint of its store is the same, which is made of these tables."""
    write_cases(tmp_path, LESIONS)
    common = {"height": 64, "width": 48, "store": "x", "seed": 0}
    found = read_catalog({"_target_": CBIS, "root": str(tmp_path), "cases": None, **common})
    expected = read_cbis_ddsm(root=tmp_path)
    pd.testing.assert_frame_equal(found.images, expected.images)
    pd.testing.assert_frame_equal(found.lesions, expected.lesions)


def test_a_source_of_the_user_gets_what_its_signature_names() -> None:
    settings = node("read_two", root="x", height=3, width=4, split="random", store="s")
    images = read_catalog(settings).images
    assert images["density"].tolist() == [3, 3]
    assert images["path"].tolist() == [str(Path.cwd() / "a.png")] * 2
    assert check_source(settings) == node("read_two", root="x", height=3)
    assert source_name(settings) == "two"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            node("read_two", root="x", height=3, cuont=1),
            f"data.cuont: {__name__}.read_two has no such argument; did",
        ),
        (node("read_two", height=3), f"data: {__name__}.read_two needs root; give +data.root=..."),
        (
            node("read_two", root="x", height=3, count=0),
            f"data: {__name__}.read_two found no image; check its",
        ),
        (
            node("read_raises", root="x"),
            f"data: {__name__}.read_raises fails: KeyError: PosixPath('x') (test_reader",
        ),
        (node("read_list"), f"data._target_={__name__}.read_list: returned a list; return a Catalog"),
        (
            node("read_words"),
            f"data: the tables of {__name__}.read_words cannot be used: ",
        ),
        ({"_target_": "os.system", "command": "touch x"}, "data._target_=os.system: is no data source; give"),
        ({"_target_": "subprocess.run"}, "data._target_=subprocess.run: is no data source"),
        ({}, "data: has no _target_; give the dotted path of a data source"),
    ],
)
def test_a_mistake_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MammoError) as refused:
        read_catalog(settings)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, ConfigError | DataError)
