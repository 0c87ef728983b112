"""Hyper-parameter searches and multiruns.

Input: a search space or several overrides of `train.py`. Output: trials trained by workers on this machine
or in Slurm, a journal that workers share, and a leaderboard.
"""
