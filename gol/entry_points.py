"""What this project offers by name, together with what installed packages add to it.

A package adds a loss or an activation by an entry point in its own ``pyproject.toml``::

    [project.entry-points."gol.losses"]
    MyLoss = "my_package.losses:MyLoss"
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gol.errors import UserError


class Registry(Mapping[str, Any]):
    """Name to object; other packages' classes are imported when they are first asked for.

    Args:
        group: group of the entry points, each named like the class that it points at.
        own: this project's objects.
        kind: base class (or protocol of methods) of their classes.
        instances: whether the objects are instances of the classes, made without arguments.
    """

    def __init__(
        self, group: str, own: Mapping[str, Any], kind: type, instances: bool = False
    ) -> None:
        self.group, self.own = group, own
        self._kind, self._instances, self._loaded = kind, instances, {}

    @cached_property
    def others(self) -> dict[str, EntryPoint]:
        """The entry points of other packages by name.

        Raises:
            UserError: two objects of one name.
        """
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            if entry.name in self.own:
                raise UserError(f"{self._describe(entry)}: gol has a {entry.name} of its own")
            if entry.name in found:
                raise UserError(
                    f"{self._describe(entry)}: {self._describe(found[entry.name])} is there too"
                )
            found[entry.name] = entry
        return found

    def __getitem__(self, name: str) -> Any:
        """Returns the object.

        Raises:
            KeyError: there is none of this name.
            UserError: another package's class cannot be imported, or is not what it has to be.
        """
        if name in self.own:
            return self.own[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self.others[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.others

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.others

    def __len__(self) -> int:
        return len(self.own) + len(self.others)

    def _load(self, entry: EntryPoint) -> Any:
        try:
            found = entry.load()
        except Exception as error:  # whatever a stranger's module raises
            raise UserError(
                f"{self._describe(entry)}: cannot import {entry.value}: "
                f"{type(error).__name__}: {error}"
            ) from error
        is_class = isinstance(found, type) and issubclass(found, self._kind)
        if not is_class or found.__name__ != entry.name:
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise UserError(f"{self._describe(entry)}: {entry.value} must be a {kind} of this name")
        return found() if self._instances else found

    def _describe(self, entry: EntryPoint) -> str:
        package = entry.dist.name if entry.dist else "?"
        return f"entry point {entry.name} in group {self.group} of package {package}"
