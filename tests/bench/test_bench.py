"""Real runs of `python -m mammo.bench` at a tiny size; the measured figures are not tested."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.commands import command, line, next_of

from mammo.bench.measurement import in_turn

TINY = [
    "repeats=1",
    "batches=4",
    "steps=2",
    "warmup=1",
    "images=13",
    "data.patients=20",
    "data.height=64",
    "data.width=48",
    "data.film_scale=2",
    "data.batch_size=4",
]
STAGES = ["prepare", "loader", "patches", "step", "train", "evaluate", "startup"]
RIVALS = {
    "prepare": {"one worker", "reading, decoding and one resize alone"},
    "loader": {"DICOM at every epoch", "16-bit PNG", "8-bit JPEG"},
    "patches": {"images in memory", "whole images"},
    "step": {"float32, contiguous"},
    "train": {"bare loop", "loader", "step"},
    "evaluate": set(),
    "startup": set(),
}


@pytest.mark.slow
def test_all_stages_are_measured_and_told(place: Path) -> None:
    # everything that a step may include: two parts, mixup, averaged weights
    steps = ["data.micro_batches=2", "augment=light", "augment.mixup=0.2", "trainer.ema_decay=0.99"]
    # a new interpreter, because the stage `startup` measures its start
    whole = line("bench", *TINY, *steps, "output=bench.json")
    result = subprocess.run(whole, cwd=place, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    numbers = json.loads((place / "bench.json").read_text())
    machine = numbers.pop("machine")
    assert machine["cores"] >= 1
    assert machine["threads"] >= 1
    assert machine["overrides"][: len(TINY)] == TINY
    assert {"torch", "pytorch-lightning"} <= set(machine["versions"])
    assert list(numbers) == STAGES
    [train, _] = next_of(result.stdout)
    assert train[1:] == [*TINY[5:], *steps]  # without the keys of the bench
    lines = result.stdout.splitlines()
    for row, (stage, told) in zip(lines[1:8], numbers.items(), strict=True):
        assert row.startswith(stage)
        assert row.endswith(f" {told['ratio']:.3f}")
        assert told["ratio"] == told["images_per_second"] / told["limit"]
        for name in ("images_per_second", "limit"):
            low, high = told[f"{name}_range"]
            assert 0 < low <= told[name] <= high
        assert set(told["rivals"]) == RIVALS[stage]
        assert all(speed > 0 for speed in told["rivals"].values())
        assert told["sentence"] in lines
        assert told["sentence"].endswith(" is the bottleneck")
    alone = numbers["prepare"]["rivals"]["reading, decoding and one resize alone"]
    assert numbers["prepare"]["limit"] == 2 * alone
    rivals = numbers["train"]["rivals"]
    assert numbers["train"]["limit"] == min(rivals["loader"], rivals["step"])
    assert set(numbers["startup"]["seconds"]) == {"first step", "bare script", "help", "config error"}
    assert not list((place / "cache").glob("bench-*"))
    assert not (place / "runs").exists()


def test_rivals_take_turns_and_every_second_time_in_reverse() -> None:
    calls: list[str] = []

    def rival(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    measured = in_turn({name: partial(rival, name) for name in "ab"}, repeats=3)
    assert "".join(calls) == "abbaab"
    assert measured == {"a": [1, 4, 5], "b": [2, 3, 6]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (
            ["stage=lodaer"],
            f"stage=lodaer: Invalid value 'lodaer', expected one of [all, {', '.join(STAGES)}]",
        ),
        (["repeats=0"], "repeats=0: must be at least 1"),
        (["trainer.devices=2"], "trainer.devices=2: the bench is for one device"),
        (["optim.freeze_epochs=1"], "optim.freeze_epochs=1: the bench trains all layers"),
        (["output=nowhere/bench.json"], "output=nowhere/bench.json: its folder does not exist"),
        ([*TINY, "stage=prepare", "images=8"], "images=8: 8 images of the data have a file"),
        ([*TINY, "stage=loader", "steps=50"], "steps=50: with warmup=1 and data.batch_size=4 this takes 204"),
    ],
)
def test_mistake_is_told_in_one_sentence(mistake: list[str], sentence: str, place: Path) -> None:
    result = command("bench", *mistake, folder=place)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert "Traceback" not in result.stderr


def test_mistake_is_told_before_slow_imports(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['bench', 'repeats=0']; import runpy\n"
    code += "try: runpy.run_module('mammo.bench', run_name='__main__')\n"
    code += "except SystemExit: print(sorted({'torch', 'pandas', 'cv2'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
