"""The page about a run: what stands on it, that it needs nothing from elsewhere, and what becomes of a failing part."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnlab import configs, inspection, loop, report
from cnnlab.errors import UserError
from tests.small import small_experiment


def none(subject, options):
    raise UserError("there are no <maps> here")


def one(subject, options):
    return {"a_figure": Figure(figsize=(2, 1)), "broad": Figure(figsize=(12, 1))}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    experiment = small_experiment()
    loop.train(experiment, folder)
    options = configs.options_of("inspect")
    options.examples = 20
    tools = {**{part.tool: one for part in report.PARTS}, report.PARTS[0].tool: none}
    path = report.write(inspection.subject_of(experiment, folder), folder, options, tools)
    assert path == folder / "report.html"
    return path.read_text()


def test_every_part_is_there(text):
    for title in ("What was run", "How it went", "Layers", *(part.title for part in report.PARTS)):
        assert f">{title}</h2>" in text
    assert "lenet_digits: LeNet" in text
    assert "Test at step 12: loss" in text
    assert "61,706" in text
    assert "<td>learning_rate</td><td>0.003</td>" in text


def test_a_part_that_cannot_be_drawn_says_why(text):
    assert text.count("Not drawn: there are no &lt;maps&gt; here") == 1
    assert text.count(">a figure</figcaption>") == len(report.PARTS) - 1
    assert text.count("class='broad'") >= len(report.PARTS) - 1


def test_it_is_one_whole_file(text):
    assert not re.search(r"(src|href)='(?!data:|#)", text)
    assert "<script" not in text
    for data in re.findall(r"src='data:image/png;base64,([^']+)'", text):
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
    opened = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balanced().feed(text)
    assert not opened
