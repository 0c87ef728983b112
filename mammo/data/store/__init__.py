"""The prepared store: a `Catalog` goes in; every image, at one size, comes out in one memory-mapped array."""

from mammo.data.store.store import Store, prepare

__all__ = ["Store", "prepare"]
