"""Speed of each stage on this machine, compared with its limit: `python -m mammo.bench`.

A configuration goes in; a table of images per second, ratios and the bottleneck comes out.
"""
