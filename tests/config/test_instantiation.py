"""Nodes with `_target_`: what is found, what is refused and how, and what a stranger's node cannot do."""

import contextlib
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mammo.config.instantiation import Role, build, locate
from mammo.errors import ConfigError

NETWORK = Role("network", base=(nn.Module,))
LOSS = Role("loss", call=("output", "batch"))


class Part(nn.Module):
    """A network with arguments of each kind."""

    def __init__(
        self,
        *,
        num_classes: int,
        width: int = 8,
        rate: float = 0.5,
        kind: Literal["a", "b"] = "a",
        path: Path | None = None,
        sizes: list[int] | None = None,
    ) -> None:
        super().__init__()
        if width > 100:
            raise ValueError("width is above 100\nsecond line")
        self.given = {"num_classes": num_classes, "width": width, "rate": rate, "kind": kind, "path": path}
        self.sizes = sizes


class Loss:
    """Called with the parameters of the role."""

    def __call__(self, output: Any, batch: Any) -> dict[str, Any]:
        return {}


class NoLoss:
    """Called with other parameters."""

    def __call__(self, command: str) -> None:
        raise AssertionError


def make_part(num_classes: int) -> Part:
    """A function that declares what it returns."""
    return Part(num_classes=num_classes)


def untold(num_classes: int):  # type: ignore[no-untyped-def]
    return Part(num_classes=num_classes)


def built(target: str = f"{__name__}.Part", **arguments: Any) -> Any:
    return build({"_target_": target, **arguments}, key="model", role=NETWORK, offered={"num_classes": 3})


def test_what_is_asked_for_is_handed_over_and_a_node_has_precedence() -> None:
    assert built(width=4).given == {"num_classes": 3, "width": 4, "rate": 0.5, "kind": "a", "path": None}
    assert built(num_classes=5).given["num_classes"] == 5
    assert built(path="x").given["path"] == Path("x")
    assert isinstance(built(f"{__name__}.make_part"), Part)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"widht": 4}, f"model.widht: {__name__}.Part has no such argument; did you mean width?"),
        ({"width": "4"}, f"model.width=4: {__name__}.Part takes int"),
        ({"width": True}, f"model.width=True: {__name__}.Part takes int"),
        ({"rate": "x"}, f"model.rate=x: {__name__}.Part takes float"),
        ({"kind": "c"}, f"model.kind=c: {__name__}.Part takes Literal['a', 'b']"),
        ({"sizes": 3}, f"model.sizes=3: {__name__}.Part takes list[int] | None"),
        ({"width": 101}, f"model: {__name__}.Part refuses its arguments: width is above 100"),
        ({"target": "os.system", "command": "x"}, "model._target_=os.system: is no network"),
        ({"target": "subprocess.Popen"}, "model._target_=subprocess.Popen: is no network"),
        ({"target": "builtins.eval"}, "model._target_=builtins.eval: is no network"),
        (
            {"target": f"{__name__}.untold"},
            f"model._target_={__name__}.untold: is no network; give a subclass",
        ),
        ({"target": "torch.nn.Lineer"}, "torch.nn has no Lineer; did you mean torch.nn.Linear?"),
        ({"target": "no_such_module.Part"}, "there is no module no_such_module here; install it, or start"),
        ({"target": "torch.nope.Part"}, "model._target_=torch.nope.Part: torch has no nope"),
        ({"target": "Part"}, "model._target_=Part: is no dotted path"),
        ({"target": "torch.nn.Linear"}, "model: torch.nn.Linear needs in_features; give +model.in_features="),
    ],
)
def test_a_mistake_is_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(**arguments)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_loss_is_known_by_its_call() -> None:
    assert LOSS.accepts(Loss)
    for other in (NoLoss, nn.Linear, nn.CrossEntropyLoss, print, exec, int):
        assert not LOSS.accepts(other)


def test_an_error_inside_a_module_names_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken_part.py").write_text("import nothing_of_this_name\n")
    Path("raising_part.py").write_text("x = 1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="the import of broken_part fails: ModuleNotFoundError: No module"):
        locate("broken_part.X", key="model")
    with pytest.raises(ConfigError, match="the import of raising_part fails: ZeroDivisionError"):
        locate("raising_part.X", key="model")


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_a_value_is_taken_or_refused_but_never_an_error_of_python(value: Any) -> None:
    for name in ("width", "rate", "kind", "path", "sizes"):
        with contextlib.suppress(ConfigError):
            built(**{name: value})
