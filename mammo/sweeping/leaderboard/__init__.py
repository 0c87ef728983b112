"""Leaderboard: turn the trials of a search into `leaderboard.csv` and `leaderboard.html`."""
