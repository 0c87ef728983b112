"""What differs: from the defaults of train.py, and between runs."""

import pytest

from mammo.config.calls.differences import built_model, from_defaults, labels
from mammo.config.checks import plain
from mammo.config.composition import compose_train


def difference(*overrides: str) -> dict[str, object]:
    return from_defaults(plain(compose_train(list(overrides))), overrides)


def test_the_defaults_differ_in_nothing() -> None:
    assert difference() == {}
    places = ("run_dir=x", "name=y", "report=false", "data.root=z", "data.store=s", "data.loader_workers=1")
    assert difference(*places) == {}
    assert difference("model=resnet18", "optim.lr=1e-3", "seed=0") == {}  # given, but the defaults


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["optim.lr=3e-4", "seed=2"], {"optim.lr": 3e-4, "seed": 2}),
        # the network that was built, not the choice that it replaced
        (["model.name=resnet34"], {"model": "resnet34"}),
        (["model=timm", "model.name=convnext_tiny"], {"model": "convnext_tiny"}),
        (["model=custom_cnn"], {"model": "CustomCNN"}),
        # of another choice its own keys are not listed, only those that were given
        (["optim=sgd", "optim.lr=0.1"], {"optim": "sgd", "optim.lr": 0.1}),
        (["model/pool=gem"], {"model/pool": "gem"}),
        (["~schedule"], {"schedule": "none"}),
        (["trainer=cpu"], {"trainer": "cpu"}),
    ],
)
def test_what_differs_from_the_defaults(overrides: list[str], found: dict[str, object]) -> None:
    assert difference(*overrides) == found


def test_the_value_in_force_counts_not_the_one_that_was_typed() -> None:
    config = plain(compose_train(["trainer.max_epochs=3"]))
    config["trainer"]["max_epochs"] = 5  # extended by `resume`
    assert from_defaults(config, ["trainer.max_epochs=3"]) == {"trainer.max_epochs": 5}


def test_labels_are_only_what_differs() -> None:
    runs = {
        "runs/m/0": {"model": {"name": "resnet18"}, "optim": {"lr": 0.001}, "data": {"root": "/a"}},
        "runs/m/1": {"model": {"name": "resnet34"}, "optim": {"lr": 0.001}, "data": {"root": "/b"}},
    }
    assert list(labels(runs).values()) == ["resnet18", "resnet34"]
    runs["runs/m/1"]["optim"]["lr"] = 0.00031416
    assert list(labels(runs).values()) == ["resnet18 lr=0.001", "resnet34 lr=0.0003142"]


def test_labels_of_other_classes_and_tasks_are_short() -> None:
    sgd, adam = ({"optim": {"_target_": f"torch.optim.{name}", "lr": 0.1}} for name in ("SGD", "Adam"))
    assert labels({"a": sgd, "b": adam}) == {"a": "optim=SGD", "b": "optim=Adam"}
    tasks = {
        name: {"task": {"name": name, "column": name, "classes": [name, "x"]}}
        for name in ("density", "birads")
    }
    assert labels(tasks) == {"density": "name=density", "birads": "name=birads"}


def test_runs_that_differ_in_nothing_or_in_much_are_labelled_by_their_folders() -> None:
    assert labels({"runs/a": {"seed": 1}, "runs/m/b": {"seed": 1}}) == {"runs/a": "a", "runs/m/b": "m/b"}
    many = {f"r/{place}": {str(key): place for key in range(9)} for place in range(2)}
    assert list(labels(many).values()) == ["0", "1"]
    twice = {"r/a": {"seed": 1}, "r/b": {"seed": 1}, "r/c": {"seed": 2}}
    assert list(labels(twice).values()) == ["seed=1 (a)", "seed=1 (b)", "seed=2"]


def test_name_of_the_network() -> None:
    assert built_model({"model": {"_target_": "a.timm_network", "name": "convnext_tiny"}}) == "convnext_tiny"
    assert built_model({"model": {"_target_": "my.Net"}}) == "Net"
