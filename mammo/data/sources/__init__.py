"""Data sources: read the files of a data set into a `Catalog`, the tables of its images and lesions."""

from mammo.data.sources.reader import read_catalog

__all__ = ["read_catalog"]
