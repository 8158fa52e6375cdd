"""The site: built strictly, complete, and readable without network."""

import re

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from gol.cli.verbs import VERBS
from gol.config.experiments import experiments

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(root, tmp_path_factory):
    """Name to HTML of each page, of a build that ends at the first warning; the figures drawn."""
    site = tmp_path_factory.mktemp("site")
    config = load_config(str(root / "mkdocs.yml"), strict=True, site_dir=str(site))
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    assert (site / "figures/loss_gradients.png").read_bytes().startswith(b"\x89PNG")
    assert not (site / "hooks.py").exists()
    return {path.stem: path.read_text() for path in site.glob("*.html")}


def test_nothing_is_loaded_from_elsewhere(pages):
    for name, html in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\" >]+)", html)
        loaded += re.findall(r"<link\b(?![^>]*canonical)[^>]*\bhref=\"?([^\" >]+)", html)
        assert loaded and not [place for place in loaded if re.match("(https?:)?//", place)], name


def test_what_comes_from_the_code_is_there(pages):
    assert all(f'id="gol-{verb}"' in pages["commands"] for verb in VERBS)
    assert all(f"<code>{name}</code>" in pages["experiments"] for name in experiments())
    assert pages["method"].count("<math") == 7
    for name in ("gol.losses.GumbelCE", "gol.losses.DropLoss", "gol.models.build_detector"):
        assert f'id="{name}"' in pages["api"]
    for name, html in pages.items():
        assert "```" not in html and ":class:" not in html and "<!-- verbs" not in html, name
