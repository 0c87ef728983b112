"""The leaderboard as a table, as a page, and in a browser."""

import csv
import io
import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers.commands import REPOSITORY
from helpers.pages import SMALLEST_TEXT, Browser, Outline
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mammo.config.calls.differences import short_names
from mammo.errors import ConfigError
from mammo.sweeping.leaderboard.axes import Scale, axes_of
from mammo.sweeping.leaderboard.importance import importances
from mammo.sweeping.leaderboard.leaderboard import write_leaderboard
from mammo.sweeping.leaderboard.trial_table import leaderboard_csv, rank_trials
from mammo.sweeping.search.trials import State, Trial

SCRIPT = "</script><script>alert('setting')</script>"


def a_trial(number: int, state: State = "finished", value: float | None = None, **given: object) -> Trial:
    trial = Trial(number, state, {"optim.lr": 10.0 ** -(1 + number % 5)}, Path(f"/runs/{number}"), value)
    return replace(trial, **given)  # type: ignore[arg-type]


def a_search(folder: Path, *, trials: int, epochs: int = 50, seed: int = 0) -> list[Trial]:
    """Trials in every state with settings of every kind, of which the learning rate matters."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(trials):
        exponent = rng.uniform(-5, -1)
        chosen = {
            "optim.lr": 10**exponent,
            "model": str(rng.choice(["resnet18", "resnet34", "convnext_tiny"])),
            "model.dropout": rng.uniform(0, 0.6),
            "augment.rotation_degrees": int(rng.integers(31)),
            "loss.positive_weight": [None, 1.0, 2.5][rng.integers(3)],
            "data.flip": bool(rng.integers(2)),
            "trainer.batch_size": int(rng.choice([8, 16, 32, 64])),
        }
        if chosen["model"] == "convnext_tiny":
            chosen["model.drop_path_rate"] = rng.uniform(0, 0.3)
        best = 0.85 - 0.04 * (exponent + 3) ** 2 + 0.01 * rng.normal()
        rise = 1 - np.exp(-np.arange(1, epochs + 1) / 8)
        curve = np.maximum.accumulate(0.5 + (best - 0.5) * rise + 0.01 * rng.normal(size=epochs))
        state: State = "pruned" if best < 0.8 and rng.random() < 0.6 else "finished"
        state = "failed" if number % 25 == 9 else "running" if number >= trials - 2 else state
        reported = {"finished": epochs, "pruned": epochs // 4, "failed": 0, "running": 1}[state]
        scores = {epoch: float(curve[epoch - 1]) for epoch in range(1, reported + 1)}
        value = scores[reported] if scores else None
        finished = state == "finished"
        found.append(
            Trial(
                number,
                state,
                chosen,
                folder / "trials" / f"{number:04d}",
                value,
                value - 0.05 if value and finished else None,
                value + 0.04 if value and finished else None,
                scores,
                31.4 * reported if finished else None,
                f"OutOfMemoryError: batch {chosen['trainer.batch_size']}" if state == "failed" else None,
            )
        )
    return found


def words(file: Path) -> str:
    return " ".join("".join(Outline(file.read_text()).words).split())


def write(folder: Path, trials: list[Trial]) -> Path:
    return write_leaderboard(folder, trials, name="lr", objective="validation AUC")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 120 trials, with settings, errors and names that contain scripts."""
    folder = tmp_path_factory.mktemp("whole")
    trials = a_search(folder, trials=120)
    best = max((t for t in trials if t.state == "finished"), key=lambda t: t.value or 0)
    trials[best.number] = replace(best, settings=best.settings | {"model": SCRIPT, SCRIPT: "a"})
    trials[9] = replace(trials[9], error=SCRIPT, folder=Path(f"/elsewhere/{SCRIPT}"))
    return write_leaderboard(folder, trials, name=f"search {SCRIPT}", objective="validation AUC")


def test_the_table_holds_every_trial(tmp_path: Path) -> None:
    trials = a_search(tmp_path, trials=60)
    write(tmp_path, trials[::-1])
    rows = rows_of((tmp_path / "leaderboard.csv").read_text())
    assert {int(row["number"]) for row in rows} == set(range(60))
    head = ["rank", "number", "state", "value", "low", "high", "epochs", "seconds"]
    names = list(rows[0])
    assert names[:8] == head
    assert names[-2:] == ["error", "folder"]
    assert set(names[8:-2]) == {key for trial in trials for key in trial.settings}
    for row in rows:
        trial = trials[int(row["number"])]
        for key, value in vars(trial).items():
            if key not in ("settings", "curve"):
                assert row[key] == ("" if value is None else str(value)), key
        assert int(row["epochs"]) == len(trial.curve)
        for key in names[8:-2]:
            text = row[key]
            if key not in trial.settings:
                assert text == ""
            elif isinstance(trial.settings[key], str):
                assert text == trial.settings[key]
            else:
                assert json.loads(text) == trial.settings[key]


def test_ranks_are_of_finished_trials_from_the_best(tmp_path: Path) -> None:
    values = [0.7, 0.9, None, math.nan, 0.9, 0.8]
    trials = [a_trial(number, value=value) for number, value in enumerate(values)]
    trials += [a_trial(6, "pruned", 0.99, curve={1: 0.9}), a_trial(7, "failed")]
    trials += [a_trial(8, "running", 0.95), a_trial(9, "pruned", 0.6, curve={1: 0.5, 2: 0.6})]
    trials += [a_trial(10, "pruned", 0.7, curve={1: 0.5, 2: 0.7})]
    rows = rows_of(leaderboard_csv(rank_trials(trials[::-1])))
    assert [(row["rank"], row["number"]) for row in rows] == [
        ("1", "1"),
        ("2", "4"),  # of equal trials the first ranks higher
        ("3", "5"),
        ("4", "0"),
        *(("", number) for number in ("10", "9", "6")),  # pruned: the longest, then the best first
        *(("", number) for number in "2378"),
    ]
    assert rows[7]["value"] == ""


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(), st.text(max_size=20))
SCORES = st.one_of(st.none(), st.floats())
TRIALS = st.lists(
    st.builds(
        Trial,
        number=st.integers(0, 10**6),
        state=st.sampled_from(["running", "finished", "pruned", "failed"]),
        settings=st.dictionaries(st.sampled_from(["a", "b.c", "d.c", "<e>"]), VALUES),
        folder=st.just(Path("/runs/a")),
        value=st.one_of(st.none(), st.floats(0, 1), st.just(math.nan)),
        low=st.one_of(st.none(), st.floats(0, 1), st.just(math.inf)),
        high=st.one_of(st.none(), st.floats(0, 1)),
        curve=st.dictionaries(st.integers(1, 9), st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=4),
        seconds=st.one_of(st.none(), st.floats(0, 1e9)),
        error=st.one_of(st.none(), st.text(max_size=20)),
    ),
    max_size=40,
    unique_by=lambda trial: trial.number,
)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(trials=TRIALS)
def test_any_trials_have_a_table_and_a_page(tmp_path: Path, trials: list[Trial]) -> None:
    page = write(tmp_path, trials).read_text()
    assert page.endswith("</html>\n") or page.endswith("</html>")
    assert not re.search(r'(points|cx|cy|x1|x2|y1|y2|x|y)="[^"]*(nan|inf|None)', page)
    rows = rows_of((tmp_path / "leaderboard.csv").read_bytes().decode())
    assert len(rows) == len(trials)
    ranked = [row for row in rows if row["rank"]]
    assert [int(row["rank"]) for row in ranked] == list(range(1, 1 + len(ranked)))
    found = [float(row["value"]) for row in ranked]
    assert found == sorted(found, reverse=True)


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.booleans())
@example(0.0, 5e-324, False)  # half of the smallest number is zero
@example(-1.7e308, 1.7e308, False)  # the difference is not finite
def test_ticks_lie_within_their_scale(one: float, other: float, logarithmic: bool) -> None:
    low, high = min(one, other), max(one, other)
    assume(low == high or high - low > 1e-9 * max(abs(low), abs(high)))  # distinct as floats
    scale = Scale(low, high, logarithmic and low > 1e-300)
    for most in (5, 3):
        ticks = scale.ticks(most)
        assert 1 <= len(ticks) <= most
        assert ticks == sorted(ticks)
        for tick in ticks:
            assert -1e-6 <= scale.place(tick) <= 1 + 1e-6


def test_few_ticks_are_round_numbers_too() -> None:
    """Of a step of 0.2 there are four, of the next one, 0.5, there is one."""
    assert Scale(0.1208, 0.967).ticks(3) == [0.2, 0.6]


def test_axes_suit_what_was_sampled() -> None:
    trials = a_search(Path("/search"), trials=200)
    axes = axes_of(trials)
    logarithmic = {key for key, axis in axes.items() if axis.scale and axis.scale.logarithmic}
    assert logarithmic == {"optim.lr", "trainer.batch_size"}
    assert {key for key, axis in axes.items() if axis.scale is None} == {
        "model",
        "data.flip",
        "loss.positive_weight",
    }
    assert axes["model"].points == ("convnext_tiny", "resnet18", "resnet34")
    assert axes["model.drop_path_rate"].points == ("absent",)
    assert all(axis.varies for axis in axes.values())
    asked = axes_of(trials, logarithmic=["model.drop_path_rate", "model.dropout"])
    assert [key for key, axis in asked.items() if axis.scale and axis.scale.logarithmic] == [
        "model.dropout",
        "model.drop_path_rate",
    ]
    for axis in axes.values():
        places = [axis.place(trial) for trial in trials]
        assert 0 <= min(places) < max(places) <= 1
    rate = axes["model.drop_path_rate"]
    absent = [trial for trial in trials if rate.key not in trial.settings]
    assert {rate.place(trial) for trial in absent} == {0.0}
    assert min(rate.place(trial) for trial in trials if rate.key in trial.settings) > 0.1


def test_names_of_axes_tell_settings_apart() -> None:
    assert short_names(["a.lr", "b.lr", "lr", "c.depth"]) == {
        "a.lr": "a.lr",
        "b.lr": "b.lr",
        "lr": "lr",
        "c.depth": "depth",
    }


def test_what_matters_is_found_and_optuna_stays_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    ranked = rank_trials(a_search(Path("/search"), trials=100))
    found = importances(ranked, axes_of(ranked))
    assert found is not None
    assert next(iter(found)) == "optim.lr"
    assert found["optim.lr"] > 0.5
    assert set(found) == {key for trial in ranked for key in trial.settings}
    assert sum(found.values()) == pytest.approx(1)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


def test_a_few_numbers_that_do_not_matter_do_not(tmp_path: Path) -> None:
    """Optuna's densities of settings with few values have sharp peaks that differ by chance."""
    ranked = rank_trials(a_search(tmp_path, trials=1000, epochs=4))
    found = importances(ranked, axes_of(ranked))
    assert found is not None
    assert found["trainer.batch_size"] < 0.03


def test_with_few_trials_it_is_not_told_what_matters(tmp_path: Path) -> None:
    assert "Too few trials" in words(write(tmp_path, a_search(tmp_path, trials=15)))
    assert "Too few trials" not in words(write(tmp_path, a_search(tmp_path, trials=40)))


def test_importances_need_no_scikit_learn(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['sklearn'] = None; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from test_leaderboard import a_search, write\n"
        "write(Path(sys.argv[1]), a_search(Path(sys.argv[1]), trials=60))"
    )
    here = Path(__file__).parent
    paths = f"import sys; sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
    subprocess.run([sys.executable, "-c", paths + script, str(tmp_path), str(here)], check=True)
    assert "Too few trials" not in words(tmp_path / "leaderboard.html")


def test_importing_is_cheap() -> None:
    script = (
        "import sys, mammo.sweeping.leaderboard.leaderboard as _\n"
        "heavy = {'optuna', 'torch', 'numpy', 'pandas', 'jinja2', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import mammo.sweeping.leaderboard.leaderboard_page\n"
        "heavy = {'optuna', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_best_stands_first_with_its_interval_and_its_warning(tmp_path: Path) -> None:
    trials = [
        a_trial(0, value=0.8, low=0.7, high=0.85, curve=dict.fromkeys(range(1, 11), 0.8)),
        a_trial(1, value=0.84, low=0.74, high=0.9, curve=dict.fromkeys(range(1, 21), 0.8)),
        a_trial(2, value=0.6, low=0.5, high=0.7),
        a_trial(3, value=0.5),
        a_trial(4, "pruned", 0.6, curve={1: 0.5, 2: 0.5, 3: 0.6}),
    ]
    text = words(write(tmp_path, trials))
    assert "Validation AUC 0.840, 95 % interval 0.740 to 0.900: trial 1, the best of 4 finished" in text
    assert f"python train.py --config-dir {tmp_path} experiment=best" in text
    assert "The score of the best of 4 is optimistic" in text
    assert "Of the 2 other trials with an interval, 1 has an interval that contains the best value" in text
    # the pruned trial saved 12 of the 15 epochs of a finished trial
    assert "33 epochs were trained. Without pruning, about 45 would have been trained" in text
    assert "pruning saved 27 %" in text
    assert "At the end are pruned trials" in text
    assert "pruned40.600" in text.replace(" ", "")
    order = ["is optimistic", "finishedprunedfailedrunning", "Rank", "Importance of", "Course of the"]
    assert sorted(order, key=text.rindex) == order


def test_scores_that_are_nearly_equal_have_ticks_that_differ(tmp_path: Path) -> None:
    page = write(tmp_path, [a_trial(0, value=0.88171, low=0.88, high=0.8834), a_trial(1, value=0.88169)])
    ticks = re.findall(r'<text class="left"[^>]*>(0\.[0-9]+)<', page.read_text())
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks)


def test_one_setting_uses_the_width(tmp_path: Path) -> None:
    page = write(tmp_path, [a_trial(0, value=0.8), a_trial(1, value=0.7)]).read_text()
    found = re.search(r'<svg id="parallel"[^>]*viewBox="0 0 ([0-9.]+) ', page)
    assert found
    assert float(found[1]) > 700


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], ["No trial was finished,", "0 trials"]),
        ([a_trial(0, "running")], ["No trial was finished yet", "1 trial "]),
        ([a_trial(0, "failed", error="no images"), a_trial(1, "failed")], ["no images", "not recorded"]),
        ([a_trial(0, "pruned", 0.6, curve={1: 0.6})], ["No trial was finished,", "1 epoch was trained."]),
        ([a_trial(0, value=0.7)], ["0.700: trial 0, the best of 1 finished trial.", "The only finished"]),
        ([a_trial(0), a_trial(1, value=math.nan)], ["No trial was finished,"]),
        ([a_trial(0, value=0.7, low=math.nan, high=0.8)], ["Validation AUC 0.700: trial 0"]),
        ([a_trial(0, value=0.7, settings={}), a_trial(1, value=0.6, settings={})], ["No trial has both"]),
        ([a_trial(i, "failed", error=f"e{i}") for i in range(130)], ["And 30 more, see leaderboard.csv"]),
    ],
)
def test_searches_that_found_little_have_a_page(tmp_path: Path, trials: list[Trial], told: list[str]) -> None:
    text = words(write(tmp_path, trials))
    for expected in told:
        assert expected in text
    assert ("is optimistic" in text) == (sum(trial.value == 0.7 for trial in trials) * len(trials) > 1)


def test_folders_within_the_search_are_told_from_there(tmp_path: Path) -> None:
    near = a_trial(0, "failed", folder=tmp_path / "trials" / "0000")
    text = words(write(tmp_path, [near, a_trial(1, "failed", folder=Path("/far/away"))]))
    assert "not recordedtrials/0000" in text
    assert "/far/away" in text


def test_the_command_is_fit_for_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my search"
    assert f"--config-dir '{folder}' experiment=best" in words(write(folder, [a_trial(0, value=0.7)]))


def test_writing_leaves_nothing_beside_and_is_told_where_it_fails(tmp_path: Path) -> None:
    write(tmp_path, [a_trial(0, value=0.7)])
    write(tmp_path, [a_trial(0, value=0.8)])
    assert {file.name for file in tmp_path.iterdir()} == {"leaderboard.csv", "leaderboard.html"}
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*: cannot be written"):
        write(tmp_path / "file", [])


def test_a_thousand_trials_are_written_fast_and_small(tmp_path: Path) -> None:
    trials = a_search(tmp_path, trials=1000)
    write(tmp_path, trials)  # the first call imports Optuna
    started = time.process_time()
    page = write(tmp_path, trials)
    assert time.process_time() - started < 5
    assert page.stat().st_size < 3e6


def test_everything_stands_in_one_file_and_is_fit_to_be_heard(whole: Path) -> None:
    page = whole.read_text()
    outline = Outline(page)
    assert all(name.startswith("#") for name in outline.named)
    assert {name[1:] for name in outline.named} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert not re.search(r"https?:|@import|url\(", page)
    assert outline.scripts == 1
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1


def test_what_comes_from_a_search_is_text(whole: Path) -> None:
    class Cells(HTMLParser):
        tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)

    page = whole.read_text()
    cells = Cells()
    cells.feed(page)
    assert cells.tags.count("script") == 1
    assert "<script>alert" not in page
    assert "".join(Outline(page).words).count(SCRIPT) >= 6


def test_a_browser_shows_tells_and_selects_trials(whole: Path, browser: Browser) -> None:
    width = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.ask("Emulation.setDeviceMetricsOverride", **width)
    browser.open(whole)
    rows = "[...document.querySelectorAll('#top tbody tr')].filter((row) => row.checkVisibility())"
    lines = (
        "[...document.querySelectorAll('#parallel [data-trial]')].filter((line) => line.checkVisibility())"
    )
    assert browser.run(f"{rows}.length") == 20
    scored = [row for row in rows_of((whole.parent / "leaderboard.csv").read_text()) if row["value"]]
    assert browser.run(f"{lines}.length") == len(scored)

    # the trial of the row under the pointer is described, and highlighted in every figure
    def move(script: str, kind: str = "mouseMoved", *, share: float = 0.5) -> None:
        box = (
            f"(() => {{ const found = {script}; found.scrollIntoView({{block: 'center'}});"
            " const {x, y, width, height} = found.getBoundingClientRect(); return [x, y, width, height]; })()"
        )
        x, y, across, down = browser.run(box)
        browser.ask(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x + across / 2,
            y=y + share * down,
            button="none" if kind == "mouseMoved" else "left",
            buttons=0 if kind == "mouseReleased" else 1,
            clickCount=1,
        )

    move("document.querySelector('#top tbody tr')")
    readout = "document.getElementById('readout')"
    best = scored[0]["number"]
    assert browser.run(f"{readout}.textContent").startswith(f"Trial {best}, rank 1: ")
    assert SCRIPT in browser.run(f"{readout}.textContent")
    assert browser.run("document.querySelectorAll('svg .hot').length") == 3
    move("document.querySelector('.plot circle.best')")
    assert browser.run(f"{readout}.textContent").startswith(f"Trial {best}, rank 1: ")
    move("document.querySelector('h1')")
    assert browser.run(f"{readout}.hidden")

    # the last axis is the score, so its upper half contains the best trials
    grip = "document.querySelector('.column:nth-last-of-type(1) .grip')"
    move(grip)
    for kind, share in (("mousePressed", 0.0), ("mouseMoved", 0.25), ("mouseMoved", 0.5)):
        move(grip, kind, share=share)
    move(grip, "mouseReleased", share=0.5)
    values = [float(row["value"]) for row in scored]
    half = (min(values) + max(values)) / 2
    expected = sum(value >= half for value in values)
    assert browser.run(f"{lines}.length") == pytest.approx(expected, abs=2)
    assert 0 < expected < len(values)
    assert "trials selected" in browser.run("document.getElementById('selected').textContent")
    assert browser.run(f"{rows}.length") == 20
    browser.run("document.querySelector('#brushing button').click()")
    assert browser.run(f"{lines}.length") == len(scored)
    browser.ask("Emulation.clearDeviceMetricsOverride")

    noise = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
    assert [event for event in browser.events if event["method"] in noise] == []
    asked = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert [event["params"]["request"]["url"] for event in asked] == [whole.as_uri()]


@pytest.mark.parametrize("width", [320, 390, 720, 1280])  # A4 has 720
def test_the_page_is_no_wider_than_the_window(whole: Path, browser: Browser, width: int) -> None:
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
    )
    browser.open(whole)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert width < 700 or browser.run("document.documentElement.scrollWidth") <= width
    browser.ask("Emulation.setEmulatedMedia", media="")
    browser.ask("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_from_the_page(whole: Path, browser: Browser, scheme: str) -> None:
    """WCAG 2.2 requires a contrast of 4.5 to 1 for text and 3 to 1 for the marks of figures."""
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(whole)

    def luminance(selector: str, name: str) -> float:
        colour = browser.run(f"getComputedStyle(document.querySelector({selector!r})).{name}")
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    page = luminance("body", "backgroundColor")
    wanted = {("p", "color"): 4.5, (".quiet", "color"): 4.5, ("#parallel text", "fill"): 4.5}
    wanted |= {("polyline.best", "stroke"): 3, (".forest .bar", "stroke"): 3, (".so-far", "stroke"): 3}
    for (selector, name), ratio in wanted.items():
        light, dark = sorted((luminance(selector, name), page), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= ratio, selector
    browser.ask("Emulation.setEmulatedMedia", features=[])


def test_figures_are_readable_on_a_phone(whole: Path, browser: Browser) -> None:
    for width in (390, 1280):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.ask("Emulation.setDeviceMetricsOverride", **size)
        browser.open(whole)
        assert browser.run("document.documentElement.scrollWidth") <= width
        rank = "document.querySelector('#top tbody th').getBoundingClientRect().width"
        assert browser.run(rank) < 60
        for selector in ("#parallel text", ".plot text"):
            assert browser.run(SMALLEST_TEXT.format(selector=selector)) > 11
    browser.ask("Emulation.clearDeviceMetricsOverride")
