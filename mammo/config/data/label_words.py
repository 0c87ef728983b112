"""The words of the user's tables for each diagnosis, `data.labels`."""

from collections.abc import Mapping
from typing import Any

from mammo.errors import ConfigError


def label_words(labels: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return each diagnosis that has words of the user with the list of them.

    Args:
        labels: diagnosis -> its word, list of words, or None.

    Raises:
        ConfigError: two diagnoses have the same word.
    """
    words = {
        name: [str(word) for word in (given if isinstance(given, list | tuple) else [given])]
        for name, given in labels.items()
        if given is not None
    }
    taken: dict[str, str] = {}
    for name, listed in words.items():
        for word in listed:
            other = taken.setdefault(word.upper(), name)
            if other != name:
                raise ConfigError(f"data.labels: '{word}' is in {other} and in {name}; leave it in one")
    return words
