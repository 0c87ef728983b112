"""The crops against a reference in NumPy, and the head of two passes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import build_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.heads.crop_mil import CropMil, cut_crops, highest_crops
from mammo.models.layer_depth import head_modules, layer_of_parameters
from mammo.models.pooling import GatedAttention, attention_weights

SIZE = (128, 96)


def built(name: str = "resnet18", *, num_classes: int = 2, **head: Any) -> Any:
    torch.manual_seed(0)
    node = {"name": "mil", "crop": 32, "crops": 3} | head
    return build_model(name=name, num_classes=num_classes, image_size=SIZE, positives=[1], head=node).eval()


def reference_crops(
    evidence: np.ndarray[Any, Any], size: tuple[int, int], crop: int, count: int
) -> list[tuple[int, int]]:
    """The corners of one image: cells from the highest, each that overlaps with no crop before it."""
    rows, columns = evidence.shape
    chosen: list[tuple[int, int]] = []
    for cell in np.argsort(-evidence.ravel(), kind="stable"):
        row, column = divmod(int(cell), columns)
        top = round((row + 0.5) * size[0] / rows - crop / 2)
        left = round((column + 0.5) * size[1] / columns - crop / 2)
        corner = min(max(top, 0), size[0] - crop), min(max(left, 0), size[1] - crop)
        if len(chosen) < count and all(
            max(abs(c[0] - corner[0]), abs(c[1] - corner[1])) >= crop for c in chosen
        ):
            chosen.append(corner)
    return chosen


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    crop=st.integers(1, 64),
    count=st.integers(1, 8),
    seed=st.integers(0, 10**6),
)
def test_crops_are_the_highest_that_do_not_overlap(
    rows: int, columns: int, crop: int, count: int, seed: int
) -> None:
    size = (80, 64)
    evidence = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    corners, present = highest_crops(evidence, size=size, crop=crop, count=count)
    assert corners.shape == (2, count, 2)
    for image, found, there in zip(evidence.numpy(), corners.tolist(), present.tolist(), strict=True):
        expected = reference_crops(image, size, crop, count)
        assert [tuple(corner) for corner, is_there in zip(found, there, strict=True) if is_there] == expected
        assert there == [True] * len(expected) + [False] * (count - len(expected))


def test_crops_are_cut_from_the_full_image() -> None:
    images = torch.rand(2, 1, 20, 30)
    corners = torch.tensor([[[0, 0], [12, 22]], [[3, 5], [7, 1]]])
    cut = cut_crops(images, corners, crop=8)
    assert cut.shape == (2, 2, 1, 8, 8)
    for image in range(2):
        for place, (top, left) in enumerate(corners[image].tolist()):
            assert torch.equal(cut[image, place], images[image, :, top : top + 8, left : left + 8])


def test_gated_attention_has_the_weights_of_the_paper() -> None:
    attention = GatedAttention(5, hidden=4)
    instances, present = torch.rand(2, 3, 5), torch.tensor([[True, True, False], [True, True, True]])
    weights = attention_weights(attention(instances), present)
    for sample, there, found in zip(instances, present, weights, strict=True):
        scores = []
        for h in sample[there]:
            v = torch.tanh(attention.hidden.weight @ h + attention.hidden.bias)
            u = torch.sigmoid(attention.gate.weight @ h + attention.gate.bias)
            scores.append(attention.score.weight[0] @ (v * u))
        expected = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        torch.testing.assert_close(found[there], expected)
        assert (found[~there] == 0).all()


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_the_two_passes_by_hand(name: str) -> None:
    model, images = built(name), torch.rand(2, 1, *SIZE)
    output, whole = model(images), model.network(images)
    assert torch.equal(output.maps, whole.maps)
    assert output.crops.shape == (2, 3, 4)
    assert output.crop_attention.shape == (2, 3)
    torch.testing.assert_close(output.crop_attention.sum(dim=1), torch.ones(2))
    encoder = model.crop_network.network
    for image in range(2):
        parts = []
        for x_min, y_min, x_max, y_max in output.crops[image].int().tolist():
            crop = images[image : image + 1, :, y_min:y_max, x_min:x_max]
            assert crop.shape == (1, 1, 32, 32)
            parts.append(encoder.forward_head(encoder.forward_features(crop), pre_logits=True)[0])
        pooled = output.crop_attention[image] @ torch.stack(parts)
        expected = (whole.logits[image] + encoder.get_classifier()(pooled)) / 2
        torch.testing.assert_close(output.logits[image], expected, rtol=1e-4, atol=1e-5)


def test_the_first_crop_is_where_the_map_is_highest() -> None:
    """Also where the first pass sees a smaller image."""
    for reduce in (1, 2):
        model, images = built(reduce=reduce), torch.rand(2, 1, *SIZE)
        output = model(images)
        evidence = output.maps[:, 1] - output.maps[:, 0]
        rows, columns = evidence.shape[1:]
        assert (rows, columns) == (4 // reduce, -(-3 // reduce))
        for best, crop in zip(evidence.flatten(1).argmax(dim=1).tolist(), output.crops[:, 0], strict=True):
            row, column = divmod(best, columns)
            x_min, y_min, x_max, y_max = crop.tolist()
            assert y_min <= (row + 0.5) * SIZE[0] / rows <= y_max
            assert x_min <= (column + 0.5) * SIZE[1] / columns <= x_max


def test_without_positive_classes_the_crops_are_of_the_likeliest_class() -> None:
    torch.manual_seed(0)
    head = {"name": "mil", "crop": 32, "crops": 1}
    model: Any = build_model(name="resnet18", num_classes=3, image_size=SIZE, head=head).eval()
    images = torch.rand(4, 1, *SIZE)
    whole = model.network(images)
    expected, _ = highest_crops(
        torch.stack(
            [maps[likeliest] for maps, likeliest in zip(whole.maps, whole.logits.argmax(1), strict=True)]
        ),
        size=SIZE,
        crop=32,
        count=1,
    )
    assert torch.equal(model(images).crops[:, 0, :2], expected[:, 0].flip(1).float())


def test_crops_that_do_not_fit_are_absent() -> None:
    output = built(crop=90, crops=4)(torch.rand(2, 1, *SIZE))
    assert output.crops.isnan().all(dim=2).tolist() == [[False, True, True, True]] * 2
    assert output.crop_attention.tolist() == [[1.0, 0.0, 0.0, 0.0]] * 2
    assert output.logits.isfinite().all()


def test_both_networks_and_the_attention_learn() -> None:
    model = built().train()
    loss = nn.functional.cross_entropy(model(torch.rand(2, 1, *SIZE)).logits, torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for part in (model.network, model.crop_network, model.attention):
        assert any(parameter.grad.any() for parameter in part.parameters())


def test_layers_of_both_networks_are_counted_from_the_image() -> None:
    model = built()
    layers = layer_of_parameters(model, coarse=True)
    whole = layer_of_parameters(model.network.network, coarse=True)
    for name, layer in whole.items():
        assert layers[f"network.network.{name}"] == layers[f"crop_network.network.{name}"] == layer
    assert {layers[name] for name in layers if name.startswith("attention")} == {max(whole.values())}
    assert set(layers) == {name for name, _ in model.named_parameters()}
    assert {"attention", "network.network.fc", "crop_network.network.fc"} <= set(head_modules(model))


def test_both_networks_start_from_the_weights_of_one(tmp_path: Path) -> None:
    given_ = build_model(name="resnet18", num_classes=2, image_size=SIZE)
    torch.save(given_.state_dict(), tmp_path / "w.pt")
    head = {"name": "mil", "crop": 32, "crops": 3}
    model: Any = build_model(
        name="resnet18", num_classes=2, image_size=SIZE, head=head, weights=str(tmp_path / "w.pt")
    )
    for network in (model.network.network, model.crop_network.network):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, given_.state_dict()[name])
    assert model.network.network.fc.weight is not model.crop_network.network.fc.weight


def test_a_traced_network_gives_the_same_for_other_batches() -> None:
    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = built()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images).logits
            return logits

    model, images = Logits().eval(), torch.rand(3, 1, *SIZE)
    with torch.no_grad():
        traced: Any = torch.jit.trace(model, images[:2], check_trace=False)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(traced(images), model(images))


def test_a_run_of_this_head_starts_both_networks_and_the_attention(tmp_path: Path) -> None:
    run = built()
    torch.nn.init.zeros_(run.crop_network.network.fc.weight)
    torch.save(
        {"state_dict": {f"network.{key}": value for key, value in run.state_dict().items()}}, tmp_path / "w"
    )
    torch.manual_seed(1)
    head = {"name": "mil", "crop": 32, "crops": 3}
    model = build_model(
        name="resnet18", num_classes=2, image_size=SIZE, head=head, weights=str(tmp_path / "w")
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, run.state_dict()[name]), name


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (
            {"crop": 100},
            "model.head.crop=100: is larger than a side of the image of 128 x 96 pixels; give at most 96",
        ),
        ({"reduce": 97}, "model.head.reduce=97: is larger than a side of the image of 128 x 96 pixels; give"),
        ({"reduce": 64}, "model/head: the map of ResNet has a single cell for images of 2 x 1"),
    ],
)
def test_keys_that_do_not_suit_are_refused(head: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(**head)
    assert str(refused.value).startswith(sentence)


def test_a_classifier_that_is_not_linear_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model/head=mil: the classifier of DLA is no linear layer"):
        built("dla34")


def test_a_network_of_one_size_is_refused() -> None:
    network = build_model(name="vit_tiny_patch16_224", num_classes=2, image_size=SIZE)
    with pytest.raises(
        ConfigError, match=r"^model\.head\.crop=32: VisionTransformer does not encode crops of"
    ):
        CropMil(network=network, num_classes=2, image_size=SIZE, crop=32)


def test_the_same_images_give_the_same_crops() -> None:
    model, images = built(), torch.rand(2, 1, *SIZE)
    one: Tensor = model(images).crops
    assert torch.equal(one, model(images).crops)
    assert torch.equal(one, torch.cat([model(image[None]).crops for image in images]))
