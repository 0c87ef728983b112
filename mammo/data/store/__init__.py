"""The prepared store: all images of a `Catalog`, at one size, in one memory-mapped array."""

from mammo.data.store.store import Store, prepare

__all__ = ["Store", "prepare"]
