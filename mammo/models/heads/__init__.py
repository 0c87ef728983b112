"""Heads of an image network in the place of its global pooling: they score the places of an image.

`model.head` chooses one, see `head_nodes`.
"""
