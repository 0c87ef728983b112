"""Faster import of PyTorch, Lightning and their dependencies."""

import atexit
import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# Modules that torchmetrics, and so Lightning, imports for speech metrics and for plots of metrics: the
# filters of SciPy and the windows of Matplotlib. Their import takes 1.5 seconds, and no training needs them.
_LATER = ("scipy.signal", "torchmetrics.utilities.plot")


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Context manager in which the first import of PyTorch and of packages that use it takes less time.

    The garbage collector is disabled, because it would scan a million objects repeatedly; afterwards it
    ignores these objects. `_Later` replaces modules that are not needed until their first use.
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
        atexit.register(gc.unfreeze)  # otherwise Triton reports leaked objects at exit
        gc.enable()
        for name in stand_ins:
            del sys.modules[name]  # later imports get the module itself


class _Later(ModuleType):
    """Placeholder for a module: functions taken from it import the module when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.isupper():  # a type, for annotations
            return object

        def call(*arguments: Any, **keywords: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **keywords)

        return call
