"""Networks that map one-channel images to class logits: timm's, the custom CNN, or one of the user's own.

In: a node of the configuration, and weights from a file or from timm's hub.
Out: a PyTorch module of B 1 H W to B C logits, its normalisation, and the layer of each parameter.
"""

from mammo.models.output import Output

__all__ = ["Output"]
