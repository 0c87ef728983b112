"""Download from the Imaging Data Commons: series of a data set, its tables, and their transfer by s5cmd.

Into `data.root` come the tables and, in the layout of the Imaging Data Commons, the files of each series.
"""
