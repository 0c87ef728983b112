"""Lines of progress, where there is no terminal."""

import pytest

from mammo.data import progress_bar
from mammo.data.progress_bar import progress


@pytest.mark.parametrize(("seconds", "left"), [(0.04, "4 s"), (0.5, "45 s"), (40.0, "60 min")])
def test_the_time_left_has_a_unit_that_shows_it(
    seconds: float, left: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10 * seconds])
    monkeypatch.setattr(progress_bar, "shows_bars", lambda: False)
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(clock))
    with progress(total=100, done=0) as advance:
        advance(10)
    assert capsys.readouterr().err == f"preparing: 10 of 100 images, {left} left\n"
