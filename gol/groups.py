"""LVIS's frequency groups of classes, and where they begin (Gupta et al., LVIS, CVPR 2019)."""

#: The key ``frequency`` of a class to the group's name.
GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
#: Mask AP by the classes that it is over.
GROUP_METRICS = {"AP": "all", **{f"AP{group}": name for group, name in GROUPS.items()}}
#: The most training images that a rare and a common class are in.
THRESHOLDS = (10, 100)


def frequency_group(image_count: int, thresholds: tuple[int, int] = THRESHOLDS) -> str:
    """Returns "r", "c" or "f" for a class that occurs in ``image_count`` training images."""
    rare, common = thresholds
    return "r" if image_count <= rare else "c" if image_count <= common else "f"
