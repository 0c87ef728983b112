"""The documentation: its links, its reference of every key, and its build without warnings."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import own_parts
from helpers.commands import REPOSITORY
from helpers.doc_pages import printed_commands, write_files
from helpers.pages import Browser
from hydra.core.override_parser.overrides_parser import OverridesParser

from mammo.config.composition import compose_train, compose_with_choices, extra_config_dirs
from mammo.config.unused_keys import refuse_unused
from mammo.sweeping.command_line import split_overrides

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


COMMANDS = sorted({command for page in PAGES for command in printed_commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shell_passes_a_printed_command_as_it_is(command: str) -> None:
    outside_quotes = re.sub(r"'[^']*'", "", command)
    # bash expands braces, zsh refuses brackets, and both run what follows a bar
    assert not re.search(r"[][{}()*?|<>]", outside_quotes)


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the files that the pages print, and empty ones for those that they name."""
    place = tmp_path_factory.mktemp("user")
    for page in ("own_task", "own_metric"):
        write_files(page, place)
    own_parts.write_page_files(place)
    for name in ("CBIS-DDSM", "INbreast", "CMMD", "images", "dicoms", "../images", "../DIR"):
        (place / "data" / name).mkdir(parents=True)
    for name in ("runs/image", "runs/patches", "runs/patches_folds/0", "runs/whole", "patches"):
        (place / name / "checkpoints").mkdir(parents=True)
        (place / name / "checkpoints" / "best.ckpt").touch()
    for name in ("images.csv", "exams.csv", "exams.xlsx", "weights.safetensors"):
        (place / name).touch()
    return place


@pytest.mark.slow  # all together
@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if not {"--cfg", "--help"} & {*command.split()}]
)
def test_a_printed_command_has_valid_settings(
    command: str, user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user_folder)
    _, *words = shlex.split(command.replace("/data/", "data/").replace("$SLURM_ARRAY_TASK_ID", "0"))
    door = re.sub(r"^mammo\.|\.py$", "", words.pop(0) if words[0] != "-m" else words.pop(1))
    folders = [Path(words.pop(words.index("--config-dir") + 1))] if "--config-dir" in words else []
    overrides = [word for word in words if "=" in word]
    if any("NAME" in str(folder) for folder in folders):  # of a search
        folders, overrides = [], []
    with extra_config_dirs(folders):
        if door == "train":
            overrides = [_first_of_sweep(override) for override in overrides if "hydra" not in override]
            compose_train(overrides)
        elif door == "sweep":
            of_search, _, of_training = split_overrides(overrides)
            compose_with_choices("sweep", of_search)
            compose_with_choices("train", of_training)
        else:
            cfg, _ = compose_with_choices(door, overrides)
            refuse_unused(door, cfg, overrides)


def _first_of_sweep(text: str) -> str:
    override = OverridesParser.create().parse_override(text)
    if not override.is_sweep_override():
        return text
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(DOCS)]
    done = subprocess.run([*build, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: Path) -> None:
    for page in ("index", "tutorial", "architecture", "reference/configuration", "howto/resuming"):
        assert (site / f"{page}.html").is_file()
        assert "_static/site.css" in (site / f"{page}.html").read_text()


@pytest.mark.slow
def test_on_a_telephone_commands_are_wrapped_and_columns_stay(site: Path, browser: Browser) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    blocks = "[...document.querySelectorAll('.highlight-{kind} pre')]"
    for page, kind in (("public_sets", "text"), ("own_parts", "python"), ("own_parts", "yaml")):
        browser.open(site / "howto" / f"{page}.html")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        wide = blocks.format(kind=kind)
        lines = f"{wide}.map((pre) => [pre.clientHeight, pre.textContent.trimEnd().split('\\n').length])"
        heights = [height / count for height, count in browser.run(lines) if count > 5]
        assert heights
        assert max(heights) < 25  # a line of the text is a line of the page
        commands = blocks.format(kind="none")
        assert browser.run(f"{commands}.every((pre) => pre.scrollWidth <= pre.clientWidth)")
