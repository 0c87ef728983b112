"""The leaderboard: trials go in; `leaderboard.csv` and `leaderboard.html` come out."""
