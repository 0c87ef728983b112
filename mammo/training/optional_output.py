"""Output that only shows a training: if it fails, the training continues."""

import sys
from types import TracebackType
from typing import Self

from mammo.runs.run_lock import RunTakenError


class OptionalOutput:
    """Context manager that reports the first error inside its blocks on stderr, and suppresses all.

    The end of the process, and the loss of the run folder to another process, are not suppressed.

    Args:
        name: what is written, such as `TensorBoard pictures`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reported = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, RunTakenError):
            return False
        if not self.reported:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            print(f"{self.name}: not written ({reason}); the run continues without", file=sys.stderr)
            self.reported = True
        return True
