"""Public data sets: each reads its own tables and files, wherever they are below its folder."""
