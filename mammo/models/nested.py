"""Modules around copies of a network of single images: a head that scores places, or a fusion of views."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from mammo.models.layer_depth import layer_of_parameters


class NestedNetwork(nn.Module):
    """A module around copies of a network of single images, with timm's interface to its layers.

    Attributes:
        image_networks: names of the copies in this module; the first one gives the maps.
    """

    image_networks: tuple[str, ...]

    @property
    def image_network(self) -> nn.Module:
        """The first copy of the network of single images."""
        return self.get_submodule(self.image_networks[0])

    @property
    def pretrained_cfg(self) -> Any:
        """What timm knows of the network's weights; None for a network that is not of timm."""
        return getattr(self.image_network, "pretrained_cfg", None)

    def locate(self, name: str) -> tuple[nn.Module, str]:
        """Return the copy that contains a layer or parameter, and its name there; else this module."""
        for network in self.image_networks:
            if name.startswith(f"{network}."):
                return self.get_submodule(network), name.removeprefix(f"{network}.")
        return self, name

    def from_image_network(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a network of single images to those of each copy of it in this module."""
        return {
            f"{network}.{name}": tensor for network in self.image_networks for name, tensor in tensors.items()
        }

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """Return the classifiers of the copies and all modules outside them; timm's name for this method."""
        found = [
            module
            for name, module in self.named_children()
            if not any(network == name or network.startswith(f"{name}.") for network in self.image_networks)
        ]
        for name in self.image_networks:
            network: Any = self.get_submodule(name)
            classifier = network.get_classifier() if hasattr(network, "get_classifier") else ()
            found += classifier if isinstance(classifier, tuple) else (classifier,)
        return tuple(found)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer of a parameter's name, in timm's format: that in the network of single images.

        All other parameters belong to the last layer, that of the classifier.

        Args:
            coarse: whether a layer is a stage rather than a block.
        """
        layers = {
            f"{network}.{name}": layer
            for network in self.image_networks
            for name, layer in layer_of_parameters(self.get_submodule(network), coarse=coarse).items()
        }
        last = max(layers.values())
        return lambda name: layers.get(name, last)


def image_network_of(network: nn.Module, layer: str) -> tuple[nn.Module, str]:
    """Return the innermost network that contains a layer, and the layer's name in it."""
    while isinstance(network, NestedNetwork):
        inner, rest = network.locate(layer)
        if inner is network:
            break
        network, layer = inner, rest
    return network, layer


def innermost_name(network: nn.Module) -> str:
    """Return the name of the network of single images that gives the maps; "" if it is the network itself."""
    if not isinstance(network, NestedNetwork):
        return ""
    first = network.image_networks[0]
    return f"{first}.{innermost_name(network.get_submodule(first))}".rstrip(".")
