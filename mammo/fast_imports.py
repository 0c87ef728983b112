"""The import of PyTorch and Lightning, with what they bring along, in less time."""

import atexit
import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# What torchmetrics, and so Lightning, imports beforehand for speech metrics and for plots of metrics: SciPy's
# filters and Matplotlib's windows, a second and a half that no training has a use for.
_LATER = ("scipy.signal", "torchmetrics.utilities.plot")


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Within it, the first import of PyTorch and what builds on it takes less time.

    The garbage collector is disabled, because it would scan a million objects again and again; it
    leaves them alone later too. `_Later` replaces modules that are not needed until their first use.
    """
    if "torch" in sys.modules:
        yield
        return
    stand_ins = {name: _Later(name) for name in _LATER if name not in sys.modules}
    sys.modules.update(stand_ins)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or Triton reports leaked objects at exit
        gc.enable()
        for name in stand_ins:
            del sys.modules[name]  # whoever imports it from now on gets the module itself


class _Later(ModuleType):
    """Stands for a module to those that take names from it: functions import it when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.isupper():  # a type, for annotations
            return object

        def call(*arguments: Any, **keywords: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **keywords)

        return call
