"""Initial weights of a network: files matched by name and shape, timm's hub, names of other ports."""
