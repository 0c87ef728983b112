"""User mistakes in real commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import COMMANDS, REPOSITORY, command

# what the phantom has a default for, and real data have not
REAL = ["optim.lr=1e-4", "trainer.max_epochs=1"]


def run(*arguments: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return command("train", *arguments, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (
            ["model=resnet19"],
            "model=resnet19: no such choice; choose from custom_cnn, efficientnet_lite0, "
            "efficientnet_lite1, efficientnet_lite2, inception_resnet_v2, resnet18",
        ),
        (["trainer.max_epochs=three"], "trainer.max_epochs=three: Value 'three' of type 'str'"),
        (["+trainer.max_epoch=3"], "+trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        (
            ["model/pool=foo"],
            "model/pool=foo: no such choice; choose from attention, avg, gem, max",
        ),
        (
            ["model.pool=gem"],
            "model.pool=gem: the pooling is chosen from a group; give model/pool=gem",
        ),
        (
            ["model/head=foo"],
            "model/head=foo: no such choice; choose from global, mil, patch_map",
        ),
        (
            ["model.head=mil"],
            "model.head=mil: the head is chosen from a group; give model/head=mil",
        ),
        (["model/head=mil", "model.head.crop=0"], "model.head.crop=0: must be at least 1"),
        (["model/head=patch_map", "model.head.pool=topk"], "model.head.pool=topk: Invalid value 'topk'"),
        (["model/head=mil", "model.box_head=true"], "model.box_head=true and model/head exclude each other"),
        (["sead=3"], "sead=3: no such key; did you mean seed?"),
        (
            ["data.patch.foo=3"],
            "data.patch.foo=3: no such key; data.patch has hard_negatives, overlap, per_image, per_lesion, ",
        ),
        (["modle=resnet18"], "modle=resnet18: no such key; did you mean model?"),
        (["model=custom_cnn", "model.drop_path=0.1"], "model.drop_path=0.1: no such key"),
        (["data=cbis_ddsm", *REAL], "data.root has no value: give data.root=..."),
        (["data=cbis_ddsm", "data.root=/nowhere", *REAL], "data.root=/nowhere: no such folder"),
        (["data=csv", "data.root=.", "data.table=t.csv", *REAL], "data.table=t.csv: no such file or folder"),
        (
            ["data=cbis_ddsm", "data.root=."],
            "optim.lr and trainer.max_epochs have no value: give optim.lr=... trainer.max_epochs=..., or an "
            "experiment that is made for real mammograms, such as experiment=plain",
        ),
        (
            ["data=csv", "optim.lr=1"],
            "data.root, data.table and trainer.max_epochs have no value: give data.root=... data.table=... "
            "trainer.max_epochs=..., or an experiment",
        ),
        # a mistake comes before what is missing
        (
            ["data=csv", "optim.weight_dekay=1"],
            "optim.weight_dekay=1: no such key; did you mean optim.weight",
        ),
        (["data=csv", "loss.label_smoothing=2"], "loss.label_smoothing=2.0: must be between 0 and 1"),
        (["data=csv", "data.table=t.csv"], "data.table=t.csv: no such file or folder"),
        (["data=csv", "data.root=/nowhere"], "data.root=/nowhere: no such folder"),
        (["data=cbis_ddsm", "model.weights=w.pt"], "model.weights=w.pt: no such file, nor a run"),
        (
            ["data=cbis_ddsm", "data.batch_size=16", "data.micro_batches=3"],
            "micro_batches=3: does not divide",
        ),
        (["data=cbis_ddsm", "data.fold=2"], "data.fold=2: is used with data.split=kfold only"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: must be at least 1"),
        (["data.views=[CC,CC]"], "data.views=[CC,CC]: give one or more views, each once"),
        (["data.views=[CC,AP]"], "data.views=[CC,AP]: 'AP' is not one of CC, MLO, ML, LM, LMO,"),
        (["data.views=[]"], "data.views=[]: give one or more views, each once"),
        (["data.val_fraction=1.5"], "data.val_fraction=1.5: must be between 0 and 1"),
        (["data.sample=[10,20]"], "data.sample=[10, 20]: give three counts, [train,val,test]"),
        (["data.split=kfold", "data.fold=5"], "data.fold=5: with data.folds=5 folds it must be 0 to 4"),
        (["data.split=file"], "data.split=file and data.split_file=PATH belong together"),
        (
            ["data.normalisation=weights"],
            "data.normalisation=weights: needs model.pretrained=true or model.weights=FILE",
        ),
        (["model=timm"], "model.name has no value: give model.name=..."),
        (["model.weights=w.pt"], "model.weights=w.pt: no such file, nor a run"),
        (["model.pretrained=true", "model.weights=w.pt"], "exclude each other"),
        (["trainer.sync_batchnorm=true", "model.share_views=false"], "a process whose batch lacks a view"),
        (
            ["model.box_head=true", "trainer.compile=true"],
            "model.box_head=true and trainer.compile=true exclude",
        ),
        (["loss.box_weight=-1"], "loss.box_weight=-1.0: must be at least 0"),
        (["model.channels=2"], "model.channels=2: must be 1 (grey) or 3"),
        (
            ["data.micro_batches=3"],
            "data.micro_batches=3: does not divide data.batch_size=16; choose from 1, 2",
        ),
        (["optim=sgd", "optim.betas=[0.5,0.9]"], "optim.betas=[0.5,0.9]: no such key"),
        (["optim.unfreeze_every=2"], "optim.unfreeze_every: needs frozen epochs before it"),
        (["resume=runs/none"], "resume=runs/none: holds no run"),
        (["resume=latest"], "resume=latest: there is no run in"),
        (["data.height=[1"], "no viable alternative at input"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: a training without -m runs in this process"),
        (["seed=1,2"], "seed=1,2: several values; give -m to train with each of them"),
    ],
)
def test_mistake_is_told_in_one_sentence(mistake: list[str], sentence: str, tmp_path: Path) -> None:
    result = run(*mistake, folder=tmp_path)
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1
    assert last.startswith("error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = run("trainer=gpu", "data.patients=20", folder=tmp_path)
    assert result.returncode == 1
    assert "trainer.accelerator=gpu: PyTorch finds no GPU here" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_a_run_folder_for_many_runs_is_refused(tmp_path: Path) -> None:
    result = run("-m", "run_dir=x", "seed=1,2", folder=tmp_path)
    assert result.returncode == 1
    sentence = "run_dir=x: is for a single run; give hydra.sweep.dir=... with -m"
    assert sentence in result.stderr.splitlines()[-1]
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_mistake_is_told_before_slow_imports(tmp_path: Path) -> None:
    """A mistake is reported quickly on any machine because nothing slow is imported first."""
    code = "import sys; sys.argv = ['train.py', 'sead=3']; import runpy\n"
    code += f"try: runpy.run_path({str(REPOSITORY / 'train.py')!r}, run_name='__main__')\n"
    code += "except SystemExit: print(sorted({'torch', 'pandas', 'cv2'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.slow
def test_help_of_every_command_is_told_before_slow_imports(tmp_path: Path) -> None:
    # all in one process, where the modules that any of them imports remain
    code = f"""
import runpy, sys
for door in {COMMANDS}:
    sys.argv = [door, "--help"]
    if door in ("train", "sweep"):
        runpy.run_path(f"{REPOSITORY}/{{door}}.py", run_name="__main__")
    else:
        runpy.run_module(f"mammo.{{door}}", run_name="__main__")
    print(door, "imported", sorted({{"torch", "pandas", "cv2", "optuna"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if " imported " in line] == [
        f"{door} imported []" for door in COMMANDS
    ]


def test_every_key_of_data_reaches_a_function() -> None:
    """A key that no function takes would be accepted and ignored."""
    import dataclasses
    import inspect

    from mammo.config import schema
    from mammo.data.loading.datamodule import MammogramDataModule
    from mammo.data.samples import in_views
    from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
    from mammo.data.sources.csv_dataset import read_csv
    from mammo.data.sources.phantom_source import read_phantom
    from mammo.data.splits import make_split
    from mammo.data.store.store import prepare

    functions = (MammogramDataModule, read_phantom, read_cbis_ddsm, read_csv, make_split, prepare, in_views)
    taken = {name for function in functions for name in inspect.signature(function).parameters}
    nodes = (schema.PhantomConfig, schema.CbisDdsmConfig, schema.CsvConfig)
    keys = {field.name for node in nodes for field in dataclasses.fields(node)}
    assert keys - taken == {"normalisation", "_target_"}  # read by `fit` itself, and by `read_catalog`


@pytest.mark.slow
def test_the_package_lists_its_commands_without_pytorch(tmp_path: Path) -> None:
    code = "import runpy, sys; runpy.run_module('mammo', run_name='__main__'); print('torch' in sys.modules)"
    pipes = {"capture_output": True, "text": True, "cwd": tmp_path}
    pipes |= {"env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
    listed = subprocess.run([sys.executable, "-c", code], check=True, **pipes)
    lines = listed.stdout.splitlines()
    assert lines[-1] == "False"
    for name in COMMANDS:
        meanings = [line.partition("  ")[2] for line in lines if f"-m mammo.{name}  " in line]
        assert [len(meaning) > 30 for meaning in meanings] == [True], name
    refused = subprocess.run([sys.executable, "-m", "mammo", "trian"], **pipes)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: trian: give ")


@pytest.mark.slow
def test_warnings_of_the_log_are_shown(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "t.csv").write_bytes("image_path,patient_id,cancer\na.png,Zoë,0\n".encode("latin-1"))
    data = ["data=csv", "data.table=t.csv", "data.root=.", "pixels=false", "sheet=null"]
    shown = command("audit", *data, folder=tmp_path)
    warning = (
        "warning: t.csv: is not in UTF-8; it is read as Windows-1252 (Latin-1), which can misread its letters"
    )
    assert shown.stderr.splitlines() == [warning]
