"""One colour for each method, the same in every figure and pipeline."""

from collections.abc import Iterable, Mapping

# Okabe and Ito's palette, told apart under the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#000000"

#: A classifier, as the axis names it, to its colour; any other takes one that is free.
METHODS = {
    "sigmoid": ORANGE,
    "softmax": PURPLE,
    "gumbel": BLUE,
    "gumbel_exact": GREEN,
    "droploss_gumbel": RED,
    "class_relative": SKY,
}
PALETTE = (
    SKY,
    BLACK,
    GREEN,
    RED,
    PURPLE,
    ORANGE,
    BLUE,
)  # in the order in which they are given away


def assign_colours(panels: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """A colour for each experiment: its method's, unless another one beside it has that already.

    Args:
        panels: what is drawn together, each as experiment → classifier; at most as many as there
            are colours, so that all in a panel differ.
    """
    panels = list(panels)
    methods = {name: method for panel in panels for name, method in panel.items()}
    chosen: dict[str, str] = {}

    def taken(name: str) -> set[str]:
        beside = (other for panel in panels if name in panel for other in panel)
        return {chosen[other] for other in beside if other in chosen}

    for name, method in methods.items():
        if method in METHODS and METHODS[method] not in taken(name):
            chosen[name] = METHODS[method]
    for name in methods:
        if name not in chosen:
            chosen[name] = next((c for c in PALETTE if c not in taken(name)), PALETTE[0])
    return chosen
