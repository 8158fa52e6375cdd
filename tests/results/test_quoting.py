"""Labels, titles and notes are text wherever they are written: no markup, formula or code."""

import csv
import html
import io
import xml.etree.ElementTree as ET

import matplotlib
import pytest
from run_folders import edit_gol, make_run

from gol.cli import main
from gol.config.layout import Layout
from gol.errors import UserError, visible, without_secrets
from gol.results import quoting
from gol.results.class_plots import plot_per_class
from gol.results.comparison import plot_comparison
from gol.results.plots import plot_curves, plot_groups
from gol.results.report import report
from gol.results.rows import collect
from gol.results.tables import csv_text, latex, markdown, records

HONEST = ["R-50 (3 seeds)", "a_b", "10 %", "Käse, +RFS", "5 × 10\u202f%", "C++ & R&D", "ours: 1.5"]
HOSTILE = [
    "cost $5 and $x^{$",
    "$\\frac{1}{",
    "<b>bold</b><script>alert(1)</script>",
    '=HYPERLINK("http://example.org","click")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    " -2+3",
    "one\ntwo\r\n# three\n| four | five |",
    "\x1b[31mred\x1b[0m\x07\x9b",
    "\u202eright to left",
    "**b** _i_ `c` [l](javascript:x) ![i](y) ~~s~~ &lt;",
    r"\input{/etc/passwd} \\ % # ^^M",
    "[1cm] after a row",
    "*",
    "_hidden from the legend",
    "\ud800 half",
]


def label_runs(folder, texts):
    """A run for each text, which is its label and its statement."""
    runs = []
    for index, text in enumerate(texts):
        runs.append(make_run(folder / f"run{index}", f"gumbel@{index}"))
        edit_gol(runs[-1], label=text, statement=text)
    return runs


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_text_stays_as_it_is(text):
    assert quoting.markdown(text) == quoting.csv_cell(text) == quoting.figure(text) == text
    assert quoting.latex(text) == text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_markdown_shows_is_the_text(text):
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page = f"## {quoting.markdown(text)}\n\n| a |\n| - |\n| {quoting.markdown(text)} |\n"
    tree = ET.fromstring(f"<div>{parser.render(page)}</div>")
    tags = " ".join(element.tag for element in tree.iter())
    assert tags == "div h2 table thead tr th tbody tr td"
    shown = " ".join(visible(text).split())
    assert tree.find("h2").text == tree.find(".//td").text == shown


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_spreadsheet_computes_it(text):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([quoting.csv_cell(text)])
    assert len(out.getvalue().splitlines()) == 1
    ((cell,),) = csv.reader(io.StringIO(out.getvalue()))
    assert cell.removeprefix("'") == visible(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_latex_has_no_command_of_the_texts():
    for text in HOSTILE:
        quoted = quoting.latex(text)
        for command in ("\\input", "\\frac", "\\\\", "\n", "\x1b"):
            assert command not in quoted
        assert not quoted.startswith(("[", "*"))
        plain = quoted
        for char in "&%$#_{}":
            plain = plain.replace(f"\\{char}", "")
        assert not set(plain.replace("{}", "")) & set("&%$#_{}~^")


def test_a_report_of_hostile_texts(tmp_path, undrawn):
    used = [*HOSTILE[:3], *HOSTILE[7:11]]
    layout = {text: [f"demo/gumbel@{index}"] for index, text in enumerate(used)}
    series = {HOSTILE[2]: "demo/gumbel@0", "_hidden": "demo/gumbel@1"}
    figures = {f"{HOSTILE[0]} figure": {HOSTILE[1]: series}}
    folder = tmp_path / "out"
    tables = report(label_runs(tmp_path, used), folder, Layout(layout, figures))
    texts = {"md": markdown(tables), "csv": csv_text(records(tables)), "tex": latex(tables)}
    for name, text in texts.items():
        assert (folder / f"table.{name}").read_text() == text
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "<b>" not in texts["md"].replace(r"\<b>", "")
    assert len(list(csv.DictReader(io.StringIO(texts["csv"])))) == len(used) + 2
    assert len(list((folder / "figures").glob("*.png"))) == 6


@pytest.mark.parametrize("texts", [HOSTILE[:6], HOSTILE[6:11], HOSTILE[10:15]])
def test_a_figure_shows_the_texts(texts, tmp_path):
    runs = label_runs(tmp_path, texts)
    rows, path = collect(runs), tmp_path / "figure.svg"
    tables, series = {texts[0]: rows}, {texts[1]: "demo/gumbel@0", texts[2]: "demo/gumbel@1"}
    for plot, shown in (
        (lambda: plot_groups(tables, path), texts),
        (lambda: plot_per_class(tables, path), texts),
        (lambda: plot_curves(runs, tables, path), texts),
        (lambda: plot_comparison(texts[3], {texts[4]: series}, rows, path), texts[1:5]),
    ):
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            plot()
        drawn = html.unescape(path.read_text())
        assert not [text for text in shown if visible(text) not in drawn]


SECRETS = [
    ("postgresql://me:s3cret@host/db", "postgresql://***@host/db"),
    ("mysql+pymysql://me:s3c/ret@host/db", "mysql+pymysql://***@host/db"),
    ("https://me:s3@cret@host/x", "https://***@host/x"),
    ("https://s3cret@host/x", "https://***@host/x"),
    ("https://host/x?dl=1&token=s3cret&a=b", "https://host/x?dl=1&token=***&a=b"),
    ("https://host/x#access_token=s3cret", "https://host/x#access_token=***"),
    ("'https://host/x?sig=s3cret', and", "'https://host/x?sig=***', and"),
]


@pytest.mark.parametrize(("url", "shown"), SECRETS)
def test_no_message_says_a_password(url, shown):
    assert without_secrets(f"at {url} it ends") == f"at {shown} it ends"
    assert str(UserError(f"{url}: no answer")) == f"{shown}: no answer"


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:5000: no", "sqlite:////tmp/a@b/mlflow.db", "demo/gumbel@slow", "a?b=c"],
)
def test_what_is_no_secret_stays(text):
    assert without_secrets(text) == str(UserError(text)) == text


@pytest.mark.slow
def test_no_verb_says_a_password(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run, store = str(make_run(tmp_path / "run")), "http://me:s3cret@127.0.0.1:9/?token=s3cret"
    for verb in (["track", run, "--name", "x"], ["store"], ["doctor"]):
        assert main([*verb, "--store", store]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2 and "s3cret" not in captured.err + captured.out
    assert "***@127.0.0.1:9" in captured.err


def test_a_message_steers_no_terminal(capsys):
    assert main(["train", "\x1b[31mred\x9b"]) == 2
    assert capsys.readouterr().err.removesuffix("\n").isprintable()
