"""Results of a search: a table of all trials, `leaderboard.csv`, and a page, `leaderboard.html`."""

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
    """Write `leaderboard.csv` and `leaderboard.html`; both are complete at any time, also with other writers.

    Args:
        folder: folder of the search.
        trials: trials in any order and any state.
        name: name of the search.
        objective: name of the value of a trial, such as `validation AUC`; higher is better.
        logarithmic: settings with a logarithmic axis; None to infer them from the values.

    Returns:
        Path of the page.

    Raises:
        ConfigError: the folder cannot be written.
    """
    # Jinja is slow to import, and errors in the configuration are reported before
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
