"""The explanatory figure: its curves and its file."""

import math

import pytest
import torch

from gol.errors import UserError
from gol.results.figures import gradient_curves, loss_gradients


def test_curves_show_the_dead_zone_and_the_true_gradient():
    x, curves = gradient_curves(target=1, points=161)
    torch.testing.assert_close(curves["Gumbel, exact"], -torch.exp(-x))
    alive = x > -3.3
    torch.testing.assert_close(curves["Gumbel, paper"][alive], curves["Gumbel, exact"][alive])
    assert curves["Gumbel, paper"][x < -3.55].abs().max() < 0.03 < math.exp(3.55)
    torch.testing.assert_close(curves["sigmoid"], torch.sigmoid(x) - 1)

    x, curves = gradient_curves(target=0, points=161)
    torch.testing.assert_close(
        curves["Gumbel, exact"], curves["Gumbel, paper"], rtol=1e-3, atol=1e-9
    )
    torch.testing.assert_close(curves["sigmoid"], torch.sigmoid(x))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_figure_is_written(tmp_path, suffix):
    path = tmp_path / "new" / f"gradients.{suffix}"
    loss_gradients(path)
    start = path.read_bytes()[:300]
    assert (
        start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in start or b"<?xml" in start
    )
    beside = {"gradients.pdf"} if suffix == "png" else set()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name} | beside


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        loss_gradients(tmp_path / "file" / "gradients.png")
