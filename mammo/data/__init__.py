"""The data: image files and tables of a data set go in; training batches on the device come out.

In order: sources, catalog, splits and tasks; images, store; loading. The phantom is the embedded data set.
"""
