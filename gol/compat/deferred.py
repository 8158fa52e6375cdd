"""Keeps what this project never uses from being loaded: two thirds of ``import gol.models``.

mmdet, mmcv and torchvision import large libraries at once for parts that few people call, and
torch's optimizers load the compiler only to tell it to leave them alone. While they do so, a
stand-in takes the library's place in ``sys.modules`` and loads the real one when it is used.
Afterwards no stand-in is left there: whoever imports the library gets the library.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: What is imported for whom. ``import a.b`` asks for ``a`` too, ``from a.b import c`` does not.
UNUSED = (
    "torch._dynamo.utils",  # torchvision's RoIAlign: may it be compiled?
    "torch.utils.cpp_extension",  # mmcv offers its classes again
    *("torchvision.datasets", "torchvision.models"),  # torchvision itself
    *("sklearn", "sklearn.mixture"),  # mmdet's PAA head
    "scipy.optimize",  # mmdet's Hungarian assigners
    # mmdet's pictures of detections
    *("matplotlib", "matplotlib.pyplot", "matplotlib.collections", "matplotlib.patches"),
)


class _StandIn(ModuleType):
    """Loads the real module for every attribute that it does not have itself.

    Args:
        name: the module's.
        eager: whether asking for an attribute loads; otherwise one gets a function that does, for
            ``from module import function``.
    """

    def __init__(self, name: str, eager: bool = False) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self._eager, self._is_package = eager, eager or "." not in name

    def __getattr__(self, name: str) -> Any:
        if name == "__path__" and self._is_package:  # somebody imports another module of it
            return _real(self.__name__).__path__
        in_place = sys.modules.get(self.__name__) is self
        if name.startswith("__") and in_place:
            raise AttributeError(name)
        if self._eager or not in_place:
            return getattr(_real(self.__name__), name)
        return _later(self.__name__, name)


def _real(name: str) -> ModuleType:
    """The real module. It may import others of the modules that have stand-ins now."""
    _remove(module for module in list(sys.modules.values()) if isinstance(module, _StandIn))
    return importlib.import_module(name)


def _later(module: str, name: str) -> Callable:
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(_real(module), name)(*args, **kwargs)

    function.__name__ = name
    return function


def _install(stand_ins: list[_StandIn]) -> None:
    for stand_in in stand_ins:
        sys.modules[stand_in.__name__] = stand_in
        parent, _, child = stand_in.__name__.rpartition(".")
        if isinstance(sys.modules.get(parent), _StandIn):
            setattr(sys.modules[parent], child, stand_in)


def _remove(stand_ins: Iterable[_StandIn]) -> None:
    for stand_in in stand_ins:
        if sys.modules.get(stand_in.__name__) is stand_in:
            del sys.modules[stand_in.__name__]


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Imports of mmcv, mmdet and torchvision in this block load none of :data:`UNUSED`.

    What is loaded already, or is not installed, is left alone.
    """
    missing = [name for name in UNUSED if name not in sys.modules]
    stand_ins = [_StandIn(name) for name in missing if find_spec(name.partition(".")[0])]
    _install(stand_ins)
    try:
        yield
    finally:
        _remove(stand_ins)


@contextmanager
def no_compiler() -> Iterator[None]:
    """A ``torch.optim`` optimizer that works in this block does not load ``torch._dynamo``.

    Its methods import the compiler to mark themselves as not to be compiled and to end a traced
    graph. Before it is loaded nothing is traced, so that both can be left out; the marks are made
    when the methods are called outside.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    unmarked: list[Callable] = []

    def disable(function: Callable, *args: Any, **kwargs: Any) -> Callable:
        unmarked.append(function)
        return function

    def graph_break(*args: Any, **kwargs: Any) -> None:
        pass

    stand_in = _StandIn("torch._dynamo", eager=True)
    stand_in.disable, stand_in.graph_break = disable, graph_break
    _install([stand_in])
    try:
        yield
    finally:
        _remove([stand_in])
        for function in unmarked:
            vars(function).pop("__dynamo_disable", None)  # where torch._compile keeps the mark
