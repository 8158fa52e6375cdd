"""The wording of messages."""

import pytest

from gol.errors import plural


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "class", "1 class"),
        (0, "class", "0 classes"),
        (1203, "class", "1,203 classes"),
        (2, "box", "2 boxes"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (2, "image", "2 images"),
    ],
)
def test_a_noun_agrees_with_its_number(number, noun, text):
    assert plural(number, noun) == text
