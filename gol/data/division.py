"""Groups of images divided into train and val, so that every class that can be is in both.

Which groups go to val is first drawn class by class, the rarest first, each class's images shared
out as the images are (iterative stratification: Sechidis et al., ECML PKDD 2011). Then groups
change sides while a class is missing from one (as WalkSAT does with clauses), and while the number
of val images comes nearer to the share that was asked for.
"""

from collections import Counter, defaultdict
from random import Random
from typing import Any

#: Lists in the report of the classes that are not in both parts, and what is said of them.
ONE_SIDED = {
    "classes_of_one_group": "in one image or group only, and so in train alone",
    "classes_not_in_both": "in train alone, though in several images or groups",
    "classes_in_val_alone": "in val alone, and so never learned",
}
_STEPS = 2000  # of the search for a division that has all classes on both sides


def wanted(share: float, total: int) -> int:
    """How many of so many images, or groups of a class, are to be in val."""
    return max(1, round(share * total))


def _by_type(kind: Any) -> tuple[bool, Any]:
    return isinstance(kind, str), kind  # ids may be of both types


class Division:
    """Groups of images, and which of them are in val.

    Args:
        classes: the classes of each group.
        sizes: number of images of each group.
        share: of the images that is to be in val.
        random: draws.
    """

    def __init__(
        self, classes: list[set[Any]], sizes: list[int], share: float, random: Random
    ) -> None:
        self.classes, self.sizes, self.random = classes, sizes, random
        self.wanted = wanted(share, sum(sizes))
        self.share = share
        self.groups: dict[Any, list[int]] = defaultdict(list)
        for group, present in enumerate(classes):
            # The order of a set of texts is another one in each process, and draws follow it.
            for kind in sorted(present, key=_by_type):
                self.groups[kind].append(group)
        self.val = [False] * len(sizes)
        self.counts: Counter[Any] = Counter()  # groups of each class in val

    def find(self) -> list[bool]:
        """Whether each group is in val."""
        self._draw()
        self._complete()
        self._balance()
        return self.val

    def missing(self) -> list[Any]:
        """The classes of two or more groups that are not on both sides."""
        return [kind for kind, groups in self.groups.items() if self._lacks(kind, len(groups))]

    def one_sided(self) -> dict[str, list[Any]]:
        """The classes that are not on both sides: why, or where they are."""
        found: dict[str, list[Any]] = {key: [] for key in ONE_SIDED}
        for kind, groups in self.groups.items():
            in_val, total = self.counts[kind], len(groups)
            if in_val == total:
                found["classes_in_val_alone"].append(kind)
            elif in_val == 0:
                found["classes_of_one_group" if total == 1 else "classes_not_in_both"].append(kind)
        return found

    def _lacks(self, kind: Any, total: int) -> bool:
        # A class of one group belongs to train.
        return self.counts[kind] in (0, total) if total > 1 else self.counts[kind] == 1

    def _move(self, group: int) -> None:
        self.val[group] = not self.val[group]
        for kind in self.classes[group]:
            self.counts[kind] += 1 if self.val[group] else -1

    def _rarity(self, kind: Any) -> tuple[int, tuple[bool, Any]]:
        return len(self.groups[kind]), _by_type(kind)

    def _draw(self) -> None:
        order = list(range(len(self.sizes)))
        self.random.shuffle(order)
        rank = {group: place for place, group in enumerate(order)}
        open_groups = set(order)
        for kind in sorted(self.groups, key=self._rarity):
            groups = self.groups[kind]
            needed = wanted(self.share, len(groups)) if len(groups) > 1 else 0
            for group in sorted(open_groups.intersection(groups), key=rank.__getitem__):
                open_groups.remove(group)
                if self.counts[kind] < needed:
                    self._move(group)

    def _complete(self) -> None:
        """Moves groups of classes that are missing from a side, at best without loss elsewhere."""
        missing = self.missing()
        best, least = list(self.val), len(missing)
        for _ in range(_STEPS):
            if not missing:
                return
            groups = self.groups[self.random.choice(missing)]
            # Seldom one at random, so that it does not stay where no single move helps.
            if self.random.random() < 0.1:
                self._move(self.random.choice(groups))
            else:
                self._move(min(groups, key=lambda group: (self._loss(group), self.random.random())))
            missing = self.missing()
            if len(missing) < least:
                best, least = list(self.val), len(missing)
        for group, there in enumerate(best):
            if self.val[group] != there:
                self._move(group)

    def _loss(self, group: int) -> int:
        """How many classes more would miss a side if the group moved."""
        before = sum(self._lacks(kind, len(self.groups[kind])) for kind in self.classes[group])
        self._move(group)
        after = sum(self._lacks(kind, len(self.groups[kind])) for kind in self.classes[group])
        self._move(group)
        return after - before

    def _balance(self) -> None:
        """Moves groups that no class needs where they are, while that brings the share nearer."""
        order = list(range(len(self.sizes)))
        self.random.shuffle(order)
        order.sort(key=lambda group: len(self.classes[group]))  # those that are needed least
        count, moving = self._images_in_val(), True
        while moving:
            moving = False
            for group in order:
                moved = count + self.sizes[group] * (-1 if self.val[group] else 1)
                nearer = abs(moved - self.wanted) < abs(count - self.wanted)
                if nearer and self._loss(group) <= 0:
                    self._move(group)
                    count, moving = moved, True

    def _images_in_val(self) -> int:
        return sum(size for size, there in zip(self.sizes, self.val, strict=True) if there)
