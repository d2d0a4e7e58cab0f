"""One page about a run: what it was, how it went, what the network has learnt and how it is fooled."""

import base64
import html
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import configs, figures, loop, summary, workdirs
from cnnlab.errors import UserError
from cnnlab.inspect.subject import Subject
from cnnlab.writer import read_rows, write_whole

Tool = Callable[[Subject, ConfigDict], dict[str, Figure]]


class Part(NamedTuple):
    """A part of the page: the name in `--config.inspect` of the figures that fill it, a title, what is to be seen."""

    tool: str
    title: str
    text: str


PARTS = (
    Part(
        "filters",
        "First-layer filters",
        "The weights that look at the picture itself. Trained well they are edges, colours and waves; noise means that "
        "training was too short or the rate too high.",
    ),
    Part(
        "features",
        "Feature maps",
        "What layers make of pictures: each small map is one filter's answer, place by place. Early layers keep the "
        "picture's shape, late ones answer to parts of it.",
    ),
    Part(
        "statistics",
        "Signals and gradients, layer by layer",
        "How large activations are, how many units never answer, and how much of the loss's gradient reaches each "
        "layer. Gradients that fall off towards the first layers mean that these hardly learn.",
    ),
    Part(
        "deconvnet",
        "What excites a feature map",
        "The pictures that excite a feature map most, and beside each what in it does so, projected back to pixels "
        "(Zeiler, Fergus 2013).",
    ),
    Part(
        "occlusion",
        "Occlusion",
        "A grey square hides a part of the picture, at every place in turn. Where the true class's probability falls, "
        "the network has looked.",
    ),
    Part(
        "gradients",
        "Which pixels decide",
        "The class score's gradient in four forms. Bright pixels would change the decision most.",
    ),
    Part(
        "maximise",
        "What a class looks like to the network",
        "Pictures made from noise so that one class's score is as high as can be.",
    ),
    Part(
        "adversarial",
        "Adversaries",
        "Changes that a person hardly sees, made to mislead the network, and how many test pictures are still right "
        "under them.",
    ),
    Part(
        "invariance",
        "The picture moves",
        "The input is shifted, turned and enlarged: how accuracy falls, and how far each layer's maps move along or "
        "stay. Maps of a stride move along exactly where the shift is a multiple of it.",
    ),
)

BROAD = 8.5  # inches from which a figure keeps a width that can be read
STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }
h1 { font-size: 1.5rem; margin: 0.5rem 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.5rem }
p { max-width: 42rem } nav a { margin-right: 1rem; white-space: nowrap }
figure { margin: 1rem 0; overflow-x: auto } figure img { max-width: 100%; height: auto; border: 1px solid #ddd }
figure.broad img { max-width: none; width: 100%; min-width: 44rem }
figcaption { color: #666; font-size: 0.85rem }
.wide { overflow-x: auto } pre { font-size: 0.75rem; line-height: 1.35; margin: 0 }
table { border-collapse: collapse; font-size: 0.9rem } td, th { padding: 0.15rem 0.75rem 0.15rem 0; text-align: left }
.note { color: #a33 }
"""


def write(subject: Subject, workdir: Path, options: ConfigDict, tools: Mapping[str, Tool]) -> Path:
    """Writes report.html into the workdir: one file, pictures inside, nothing fetched from elsewhere.

    Args:
      subject: the network and its pictures.
      workdir: the run's folder.
      options: the fields of `inspect/options.py`; every part of the page takes them.
      tools: the figures of `--mode=inspect`, by name.
    """
    sections = [
        ("What was run", _run(subject, workdir)),
        ("How it went", _scores(subject, workdir, options)),
        ("Layers", _wide(f"<pre>{html.escape(summary.report(subject.experiment))}</pre>")),
    ]
    for part in PARTS:
        print(f"report: {part.title}", file=sys.stderr, flush=True)
        sections.append((part.title, f"<p>{html.escape(part.text)}</p>" + _drawn(tools[part.tool], subject, options)))
    path = workdir / "report.html"
    write_whole(path, page(f"{subject.experiment.name}: {type(subject.model).__name__}", sections).encode())
    return path


def page(title: str, sections: list[tuple[str, str]]) -> str:
    """An HTML page of titled sections, for screens of any width.

    >>> "<h2 id='s1'>Layers</h2>" in page("LeNet", [("Layers", "<p>seven</p>")])
    True
    """
    links = " ".join(f"<a href='#s{i}'>{html.escape(name)}</a>" for i, (name, _) in enumerate(sections, 1))
    body = "\n".join(
        f"<section><h2 id='s{i}'>{html.escape(name)}</h2>\n{content}</section>"
        for i, (name, content) in enumerate(sections, 1)
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1><nav>{links}</nav>\n{body}\n</body></html>\n"
    )


def embedded(name: str, figure: Figure) -> str:
    """A figure as an HTML element that holds its picture; broad ones are scrolled on narrow screens."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    data = base64.b64encode(content.getvalue()).decode()
    caption = html.escape(name.replace("_", " "))
    picture = f"<img alt='{caption}' src='data:image/png;base64,{data}'>"
    kind = " class='broad'" if figure.get_figwidth() > BROAD else ""
    return f"<figure{kind}>{picture}<figcaption>{caption}</figcaption></figure>"


def _drawn(tool: Tool, subject: Subject, options: ConfigDict) -> str:
    try:
        return "".join(embedded(name, figure) for name, figure in tool(subject, options).items())
    except UserError as error:  # a perceptron has no feature maps, say; the rest of the page stands
        return f"<p class='note'>Not drawn: {html.escape(str(error))}</p>"


def _run(subject: Subject, workdir: Path) -> str:
    experiment = subject.experiment
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(json.dumps(value, ensure_ascii=False))}</td></tr>"
        for name, value in workdirs.flatten(experiment.config).items()
    )
    first = configs.first_lines()[experiment.name]
    return (
        f"<p>{html.escape(first)}</p><p>Workdir: {html.escape(str(workdir))}</p>"
        f"<details><summary>Its configuration</summary>{_wide(f'<table>{rows}</table>')}</details>"
    )


def _scores(subject: Subject, workdir: Path, options: ConfigDict) -> str:
    """The curves of the run, its last test, and the figures that the task draws of a test."""
    rows = read_rows(workdir / "metrics.jsonl")
    tests = [row for row in rows if row["split"] == "test"]
    content = ""
    if tests:
        last = {name: value for name, value in tests[-1].items() if name not in ("step", "split")}
        said = loop.describe(f"Test at step {tests[-1]['step']:,}", last)
        content = f"<p>{html.escape(said)}</p>"
    drawn = {"curves": figures.curves(rows)} if rows else {}
    metrics = tested(subject, options.examples)
    drawn.update(subject.experiment.task.draw(subject.state, metrics, subject.experiment.test_data()))
    drawn.pop("filters", None)  # it has a part of its own
    return content + "".join(embedded(name, figure) for name, figure in drawn.items())


def tested(subject: Subject, most: int):
    """The task's metrics on up to `most` examples of the test set."""
    task = subject.experiment.task
    metrics = loop.metrics_of(task, subject.experiment.test_data())
    step = jax.jit(task.eval_step)
    for batch in subject.examples(most):
        whole = {"mask": np.ones(len(batch["index"]), np.float32), **batch}
        metrics.add(jax.device_get(step(subject.state, whole)))
    return metrics


def _wide(content: str) -> str:
    return f"<div class='wide'>{content}</div>"
