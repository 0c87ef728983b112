"""The errors a user can mend. A command prints their one sentence and exits with status 1."""


class MammoError(Exception):
    """One sentence for a person: what is wrong, with which value, and what to do about it."""


class ConfigError(MammoError):
    """A key or value of the configuration is wrong."""


class DataError(MammoError):
    """A file or table of the data is wrong."""


class TrainingStopped(Exception):  # noqa: N818, it is no error
    """Ends a training deliberately; `status` is the status recorded in the run folder."""

    status = "interrupted"
