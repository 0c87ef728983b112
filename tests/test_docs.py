"""The documentation: its links, its reference of every key, and its build without warnings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
GENERATED = {"configuration.md"}
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)#\s]+)(#[^)]*)?\)|```\{image\} (?P<image>\S+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page: Path) -> None:
    targets = [match["target"] or match["image"] for match in LINK.finditer(page.read_text())]
    local = [target for target in targets if not target.startswith(("http", "mailto"))]
    missing = [t for t in local if not (page.parent / t).exists() and Path(t).name not in GENERATED]
    assert missing == []


def test_architecture_names_files_that_are_there() -> None:
    text = (DOCS / "architecture.md").read_text().partition("## To change X, touch Y")[2]
    named = re.findall(r"`((?:mammo|conf)/[^`]*)`", text)
    assert len(named) > 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_reference_names_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    from config_reference import all_schema_keys, reference

    page = reference()  # raises if a key of the schema is missing
    for _, key in all_schema_keys():
        assert re.search(rf"[`.]{re.escape(key)}[`.]", page), key


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(DOCS)]
    done = subprocess.run([*build, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for page in ("index", "tutorial", "architecture", "reference/configuration", "howto/resuming"):
        assert (tmp_path / f"{page}.html").is_file()
        assert "_static/site.css" in (tmp_path / f"{page}.html").read_text()
