"""Download of public sets from the Imaging Data Commons: `python -m mammo.download`.

Input: a configuration. Output: in `data.root`, the tables and series of a data set, in the layout of the
Imaging Data Commons; or a prepared store and the headers of its images.
"""
