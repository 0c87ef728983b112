"""Centres of receptive fields equal those derived from paddings, and the place of a disc in real networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import build_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mammo.models.feature_maps import as_map
from mammo.models.receptive_field import CellCentres, cell_centres

Conv = nn.Conv2d


def chain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # it was made before the seed was set
            layer.reset_parameters()
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(2))


def measured(
    network: nn.Module, size: tuple[int, int], layer: str = "0"
) -> tuple[CellCentres, tuple[int, int]]:
    cells = tuple(map_of(network, layer, torch.zeros(1, 1, *size)).shape[2:])
    return cell_centres(network, layer=layer, size=size, cells=cells), cells


def map_of(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    return as_map(seen[0], network, layer=layer, size=(images.shape[2], images.shape[3]))


@pytest.mark.parametrize(
    ("layers", "offset", "stride", "size"),
    [
        # a convolution's cell k sees around stride k + kernel / 2 - padding
        ([Conv(1, 9, 3, stride=2, padding=1)], 0.5, 2, (64, 48)),
        ([Conv(1, 9, 2, stride=2)], 1.0, 2, (45, 38)),
        ([Conv(1, 9, 7, stride=4, padding=3), nn.ReLU(inplace=True)], 0.5, 4, (900, 20)),
        ([Conv(1, 9, 5, stride=3)], 2.5, 3, (64, 48)),
        ([nn.ZeroPad2d((0, 1, 0, 1)), Conv(1, 9, 3, stride=2)], 1.5, 2, (45, 38)),
        ([Conv(1, 9, 3, stride=2, padding=1), nn.MaxPool2d(2, ceil_mode=True)], 1.5, 4, (900, 20)),
        (
            [Conv(1, 9, 3, 2, 1), Conv(9, 9, 3, 2, 1), Conv(9, 9, 3, 2, 1), Conv(9, 9, 3, 2, 1)],
            0.5,
            16,
            (64, 48),
        ),
    ],
)
def test_centres_of_convolutions_follow_from_their_paddings(
    layers: list[nn.Module], offset: float, stride: int, size: tuple[int, int]
) -> None:
    found, _ = measured(chain(*layers), size)
    assert found.measured
    assert found.stride == (stride, stride)
    np.testing.assert_allclose(found.offset, [offset, offset], atol=stride / 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "size", "shift"),
    [
        # shift of the centres against an equal division, in cells
        ("resnet18", "layer4", (256, 256), -0.48),
        ("regnety_002", "final_conv", (256, 256), -0.48),
        ("repvgg_a0", "final_conv", (384, 384), -0.48),  # smaller images cut its wide response
        ("mobilenetv3_small_050", "blocks", (256, 256), -0.48),
        ("efficientnet_b0", "bn2", (256, 256), -0.48),
        ("densenet121", "features.norm5", (256, 256), -0.05),
        ("vgg11", "features", (256, 256), 0.0),
        ("convnext_atto", "norm_pre", (256, 256), 0.0),
        ("swin_tiny_patch4_window7_224", "norm", (128, 128), 0.0),
        ("vit_tiny_patch16_224", "blocks.11.norm1", (96, 96), 0.0),
    ],
)
def test_a_disc_is_drawn_at_its_place(name: str, layer: str, size: tuple[int, int], shift: float) -> None:
    torch.manual_seed(0)
    network = build_model(name=name, num_classes=2, image_size=size).eval()
    found, cells = measured(network, size, layer)
    assert found.measured
    equal = CellCentres.equal(cells, size)
    assert found.stride == equal.stride
    stride = found.stride[0]
    np.testing.assert_allclose(
        np.subtract(found.offset, equal.offset), [shift * stride, shift * stride], atol=stride / 4
    )
    # the response of the map to bright discs around the middle, at places that divide a cell evenly
    places = np.array([(0.1, 0.35), (0.35, 0.85), (0.6, 0.1), (0.85, 0.6)]) * stride
    places += np.array(size) / 2 - stride / 2
    rows, columns = np.indices(size) + 0.5
    discs = np.stack([np.hypot(rows - y, columns - x) < stride for y, x in places])[:, None]
    dark = torch.randn(1, 1, *size) * 0.1
    bright = dark + 3 * torch.tensor(discs, dtype=torch.float32)
    response = (map_of(network, layer, bright) - map_of(network, layer, dark)).square().sum(dim=1)
    heat = found.place(response, size).numpy().astype(np.float64)
    centroids = np.stack([(heat * where).sum((1, 2)) / heat.sum((1, 2)) for where in (rows, columns)], axis=1)
    np.testing.assert_allclose((centroids - places).mean(axis=0), [0, 0], atol=stride / 4)


@given(
    offset=st.floats(-40, 40),
    stride=st.floats(2, 64),
    cells=st.integers(3, 9),
    cell=st.integers(0, 8),
    across=st.floats(1, 30),
)
def test_a_single_cell_is_drawn_around_its_centre(
    offset: float, stride: float, cells: int, cell: int, across: float
) -> None:
    cell %= cells
    centre = offset + stride * cell
    pixels = int(offset + stride * cells) + 1
    if centre < stride or centre + stride > pixels:
        return
    maps = torch.zeros(1, cells, 2)
    maps[0, cell] = 1
    heat = CellCentres((offset, across / 2), (stride, across)).place(maps, (pixels, 20))[0].double()
    profile = heat.sum(dim=1)
    centroid = ((torch.arange(pixels) + 0.5) * profile).sum() / profile.sum()
    assert abs(centroid - centre) <= stride / 4


@pytest.mark.parametrize(
    ("centres", "cells", "size"),
    [
        (CellCentres((0.5, 0.5), (32, 32)), (8, 6), (256, 192)),
        (CellCentres((31.7, -3.0), (16, 12.5)), (5, 7), (80, 90)),
    ],
)
def test_placing_is_bilinear_with_zero_outside(
    centres: CellCentres, cells: tuple[int, int], size: tuple[int, int]
) -> None:
    maps = torch.rand(2, *cells)
    y, x = ((torch.arange(size[axis]) + 0.5 - centres.offset[axis]) / centres.stride[axis] for axis in (0, 1))
    grid = torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)
    grid = (2 * grid / torch.tensor([cells[1] - 1, cells[0] - 1]) - 1).expand(2, -1, -1, -1)
    expected = nn.functional.grid_sample(maps[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]
    torch.testing.assert_close(centres.place(maps, size), expected, atol=1e-4, rtol=0)


def test_equal_cells_are_placed_as_an_enlarged_picture() -> None:
    maps = torch.rand(1, 4, 3)
    placed = CellCentres.equal((4, 3), (64, 48)).place(maps, (64, 48))
    enlarged = nn.functional.interpolate(maps[:, None], (64, 48), mode="bilinear")[:, 0]
    torch.testing.assert_close(placed[:, 8:-8, 8:-8], enlarged[:, 8:-8, 8:-8])


class Fixed(nn.Module):
    """Takes images of one size; `mix` combines the cells of its map."""

    def __init__(self, side: int, mix: Callable[[Tensor], Tensor] = torch.clone) -> None:
        super().__init__()
        self.side = side
        self.patches = nn.Conv2d(1, 16, 8, stride=8)
        self.mix = mix
        self.last = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (self.side, self.side)
        found: Tensor = self.last(self.mix(self.patches(images)))
        return found


def _mean_of_all(maps: Tensor) -> Tensor:
    return maps.mean((2, 3), keepdim=True).expand_as(maps)


def test_a_network_of_one_size_is_measured_at_that_size() -> None:
    torch.manual_seed(0)
    found, _ = measured(Fixed(64), (64, 64), "last")
    assert found.measured
    assert found.stride == (8, 8)
    np.testing.assert_allclose(found.offset, [4, 4], atol=1)


@pytest.mark.parametrize(
    ("network", "side"),
    [
        (Fixed(16), 16),  # 2 x 2 cells have no interior
        (Fixed(64, _mean_of_all), 64),  # every cell sees the whole image
        (Fixed(64, lambda maps: maps * 0), 64),
        (Fixed(64, lambda maps: maps * float("nan")), 64),
        (Fixed(64, torch.zeros_like), 64),
        (Fixed(64, lambda maps: maps.detach()), 64),
    ],
)
def test_without_a_centre_the_cells_are_equal(network: nn.Module, side: int) -> None:
    found, cells = measured(network, (side, side), "last")
    assert found == CellCentres.equal(cells, (side, side))
    assert not found.measured


def test_leaves_network_and_random_numbers_unchanged() -> None:
    network: Any = chain(Conv(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)).train()
    network[0][0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        first = cell_centres(network, layer="0", size=(32, 32), cells=(16, 16))
    assert first == cell_centres(network, layer="0", size=(32, 32), cells=(16, 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert [p.requires_grad for p in network.parameters()] == [False, True, True, True]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
