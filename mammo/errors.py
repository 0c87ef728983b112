"""The errors that a user can correct. A command prints the message and exits with status 1."""


class MammoError(Exception):
    """An error whose message is one sentence: what is wrong, with which value, and the remedy."""


class ConfigError(MammoError):
    """A key or value of the configuration is wrong."""


class DataError(MammoError):
    """A file or table of the data is wrong."""


class TrainingStopped(Exception):  # noqa: N818, it is no error
    """Ends a training deliberately; `status` is recorded in the run folder, unless it is None."""

    status: str | None = "interrupted"
