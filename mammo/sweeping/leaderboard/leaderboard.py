"""What a search found: every trial in `leaderboard.csv`, and `leaderboard.html` to look at."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mammo.atomic_files import write_atomically
from mammo.errors import ConfigError
from mammo.sweeping.leaderboard.trial_table import leaderboard_csv, rank_trials
from mammo.sweeping.search.trials import Trial


def write_leaderboard(
    folder: Path,
    trials: Sequence[Trial],
    *,
    name: str,
    objective: str,
    logarithmic: Collection[str] | None = None,
) -> Path:
    """Writes `leaderboard.csv` and `leaderboard.html`, each whole at any moment, whoever else writes it.

    Args:
        folder: folder of the search.
        trials: in any order, ended or not.
        name: name of the search.
        objective: what a trial's value is, such as `validation AUC`; more is better.
        logarithmic: settings whose axes are logarithmic; None for those whose values look so.

    Returns:
        The page.

    Raises:
        ConfigError: the folder cannot be written.
    """
    # Jinja is slow to import, and the command imports this module before it can report a mistake
    from mammo.sweeping.leaderboard.leaderboard_page import render_leaderboard

    ranked = rank_trials(trials)
    page = render_leaderboard(folder, ranked, name=name, objective=objective, logarithmic=logarithmic)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "leaderboard.csv", leaderboard_csv(ranked))
        write_atomically(folder / "leaderboard.html", page)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder / "leaderboard.html"
