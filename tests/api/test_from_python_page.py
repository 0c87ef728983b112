"""The page "From Python": its code runs as printed, in a notebook."""

import re
from pathlib import Path

import nbformat
import pytest
from helpers.commands import REPOSITORY
from nbclient import NotebookClient

PAGE = REPOSITORY / "docs" / "howto" / "from_python.md"


@pytest.mark.slow
def test_the_page_runs_as_a_notebook(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(place / name.lower()))
    (place / "cache").unlink()  # the store of another test names films in its working folder
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 7
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(place)}}).execute()
    outputs = [output for cell in book.cells for output in cell.outputs]
    pages = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert pages.count("data:image/png;base64,") == 3  # the figures of the run
    assert "score_MALIGNANT" in pages
    errors = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "preparing: " in errors
    assert "image/s]" in errors  # a bar, not lines
    assert "Warning" not in errors
    assert (place / "runs/first/evaluation/test/report.html").is_file()
