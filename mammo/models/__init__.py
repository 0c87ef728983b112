"""Networks that map one-channel images to class logits: timm's and the custom CNN.

In: a network's name, its options, and weights from a file or from timm's hub.
Out: a PyTorch module of B 1 H W to B C logits, its normalisation, and the layer of each parameter.
"""
