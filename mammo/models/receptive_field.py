"""Centres of the receptive fields: the place in the image that each cell of a feature map sees.

Cell k of a map of stride s does not see around pixel s (k + 1/2) in every network. A convolution of stride 2
with symmetric padding is centred on the even pixels, so cell k of a ResNet sees around pixel s k. The centre
is measured, because it depends on the paddings and on the weights: kernels trained with an asymmetric padding
compensate for it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mammo.models.feature_maps import as_map, undisturbed
from mammo.models.nested import image_network_of

# Pixels that are added to an image to count the cells that they add; a multiple of all usual strides.
_GROWTH = 1024 * 21
# Minimum side of the noise images, pixels. Smaller images cut the receptive fields of deep networks.
_SIDE = 400
# Minimum distance of the measured cells of a row or column, pixels.
_DISTANCE = 64
# Numbers of passes; each of the four measured cells is used equally often.
_PASSES = range(4, 17, 4)
# Standard errors, in cells: enough to stop, and at most to accept (two of them are a quarter of a cell).
_GOOD_ERROR, _MOST_ERROR = 1 / 16, 1 / 8
# Movement of the centroid from cell to cell, in strides; a map that sees the whole image has about 0.
_MOVES = (0.5, 1.5)


@dataclass(frozen=True)
class CellCentres:
    """Affine map from the cells of a feature map to the image, rows before columns.

    The centre of cell k is `offset + stride * k`. Coordinates are those of boxes: pixel 0 lies between 0
    and 1.

    Attributes:
        offset: centre of the first row and of the first column, pixels.
        stride: distance between the centres of neighbouring cells, pixels.
        measured: whether the centres are measured; otherwise the map divides the image into equal cells.
    """

    offset: tuple[float, float]
    stride: tuple[float, float]
    measured: bool = True

    @classmethod
    def equal(cls, cells: tuple[int, int], size: tuple[int, int]) -> "CellCentres":
        """Return the centres of equal cells that cover the image.

        Args:
            cells: rows and columns of the map.
            size: H and W of the image.
        """
        down, across = size[0] / cells[0], size[1] / cells[1]
        return cls((down / 2, across / 2), (down, across), measured=False)

    def place(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate maps between the centres of their cells.

        Beyond the outermost centres the values decrease to 0 over one stride.

        Args:
            maps: B h w.
            size: H and W of the images.

        Returns:
            B H W.

        Example:
            >>> CellCentres((0.5, 0.5), (2.0, 2.0)).place(torch.tensor([[[0.0, 1.0]]]), (1, 5))
            tensor([[[0.0000, 0.5000, 1.0000, 0.5000, 0.0000]]])
        """
        rows, columns = (
            self._weights(axis, cells, size[axis]).to(maps) for axis, cells in enumerate(maps.shape[1:])
        )
        return rows @ maps @ columns.T

    def _weights(self, axis: int, cells: int, pixels: int) -> Tensor:
        """Return the weight of each cell (columns) at each pixel (rows) in linear interpolation."""
        place = (torch.arange(pixels) + 0.5 - self.offset[axis]) / self.stride[axis]
        return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def cell_centres(
    network: nn.Module, *, layer: str, size: tuple[int, int], cells: tuple[int, int], seed: int = 0
) -> CellCentres:
    """Measure the centres of the receptive fields of a layer's cells.

    The stride is the number of pixels that add one cell. The centre is the centroid of the squared gradient
    of interior cells by a noise image, the effective receptive field of Luo et al. 2016, Understanding the
    effective receptive field in deep convolutional neural networks. The noise image has other sides than
    `size`, with the same remainders of division by the stride, so that every padding is the same; a network
    that takes only one size is measured at that size. The network is unchanged afterwards.

    Args:
        network: network of normalised B 1 H W, or a module around one.
        layer: name of the module that outputs the map.
        size: H and W of the images.
        cells: rows and columns of the map of such images.
        seed: seed of the noise.

    Returns:
        The measured centres, or those of equal cells if there are no centres to measure: the map has no
        interior cells, every cell sees the whole image, or the gradients are 0 or not finite.
    """
    network, layer = image_network_of(network, layer)
    nominal = CellCentres.equal(cells, size)
    stride, probe = _stride(network, layer, size=size, cells=cells)
    generator = torch.Generator().manual_seed(seed)
    found: list[tuple[Tensor, Tensor]] = []
    device = _device(network)
    with undisturbed(network), torch.autocast(device.type, enabled=False):
        for passes in _PASSES:
            while len(found) < passes:
                # upper left, lower right, upper right, lower left
                quarter = [(0, 0), (1, 1), (0, 1), (1, 0)][len(found) % 4]
                cell_and_centroid = _centroid(
                    network, layer, probe=probe, stride=stride, quarter=quarter, generator=generator
                )
                if cell_and_centroid is None:
                    return nominal
                found.append(cell_and_centroid)
            chosen, centroids = (torch.stack(part) for part in zip(*found, strict=True))  # both passes x 2
            offsets = centroids / torch.tensor(stride) - chosen  # in strides
            error = offsets.std(dim=0) / math.sqrt(passes)
            if (error <= _GOOD_ERROR).all():
                break
    lower = chosen > chosen.mean(dim=0)
    moves = torch.stack(
        [
            (centroids[low, axis].mean() - centroids[~low, axis].mean())
            / (chosen[low, axis].mean() - chosen[~low, axis].mean())
            / stride[axis]
            for axis, low in enumerate(lower.T)
        ]
    )
    if (error > _MOST_ERROR).any() or (moves < _MOVES[0]).any() or (moves > _MOVES[1]).any():
        return nominal
    down, across = (offsets.mean(dim=0) * torch.tensor(stride)).tolist()
    return CellCentres((down, across), stride)


def _stride(
    network: nn.Module, layer: str, *, size: tuple[int, int], cells: tuple[int, int]
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Return the stride, and H and W of the noise images.

    If the network takes only one size, the stride is that of equal cells and the size that of the images.
    """
    grown = _cells_of_shape(network, layer, (size[0] + _GROWTH, size[1] + _GROWTH))
    added = [after - before for after, before in zip(grown or cells, cells, strict=True)]
    if any(more < 1 or _GROWTH % more for more in added):
        return (size[0] / cells[0], size[1] / cells[1]), size
    down, across = (_GROWTH // more for more in added)
    height, width = (
        pixels + stride * max(math.ceil((_SIDE - pixels) / stride), 4 - count)
        for pixels, stride, count in zip(size, (down, across), cells, strict=True)
    )
    return (down, across), (height, width)


def _cells_of_shape(network: nn.Module, layer: str, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return rows and columns of the layer's map, not computed; None if the network refuses the size."""
    tensors = {
        name: tensor.to("meta") for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }
    seen: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        with undisturbed(network), torch.no_grad():
            functional_call(network, tensors, (torch.empty(1, 1, *size, device="meta"),))
            rows, columns = as_map(seen[0], network, layer=layer, size=size).shape[2:]
    except Exception:  # networks refuse a size by errors of any type
        return None
    finally:
        handle.remove()
    return rows, columns


def _centroid(
    network: nn.Module,
    layer: str,
    *,
    probe: tuple[int, int],
    stride: tuple[float, float],
    quarter: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor] | None:
    """Return row and column of a cell and the centroid of its squared gradient, both 2 float64.

    The gradient is that of a sum of the cell's features with random signs. The expectation of its square
    is the sum of the squared gradients of all channels.

    Args:
        network: network, in evaluation mode.
        layer: name of the module that outputs the map.
        probe: H and W of the noise image.
        stride: stride of the map, pixels.
        quarter: whether the cell lies in the lower half of the interior cells, and in their right half.
        generator: random number generator of noise and signs.

    Returns:
        None if the map has no interior cells, or the gradient is 0, missing or not finite.
    """
    device = _device(network)
    image = torch.randn(1, 1, *probe, generator=generator).to(device).requires_grad_()
    seen: list[Tensor] = []
    # a copy, because the next operation of the network may be in place
    handle = network.get_submodule(layer).register_forward_hook(
        lambda _, __, output: seen.append(output.clone())
    )
    try:
        network(image)
    finally:
        handle.remove()
    features = as_map(seen[0], network, layer=layer, size=probe)[0]
    cell = []
    for cells, step, half in zip(features.shape[1:], stride, quarter, strict=True):
        distance = min(math.ceil(_DISTANCE / step), cells - 3)
        if distance < 1:
            return None
        cell.append((cells - distance) // 2 + half * distance)
    if not features.requires_grad:
        return None
    signs = torch.randint(0, 2, features.shape[:1], generator=generator).to(features) * 2 - 1
    (gradient,) = torch.autograd.grad((features[:, cell[0], cell[1]] * signs).sum(), image)
    strength = gradient[0, 0].double().cpu()
    energy = (strength / strength.abs().max()).square()  # small gradients would underflow in float32
    if not energy.sum().isfinite():  # 0 / 0, infinite or NaN
        return None
    centroid = [
        (energy.sum(dim=1 - axis) * (torch.arange(probe[axis]) + 0.5)).sum() / energy.sum() for axis in (0, 1)
    ]
    return torch.tensor(cell, dtype=torch.float64), torch.stack(centroid)


def _device(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
