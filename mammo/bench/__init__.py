"""Speed of each stage on this machine, compared with its limit: `python -m mammo.bench`.

Input: a configuration. Output: a table of images per second, ratios and the bottleneck of each stage.
"""
