"""Prediction on picture files: what `--mode=predict` does."""

import dataclasses
import glob
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cnnlab import figures, loop, parallel
from cnnlab.data.pictures import SUFFIXES, CorruptPicture
from cnnlab.data.text import UNK, Vocabulary, words_of
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.figures.film import as_png
from cnnlab.inspect.layers import class_number
from cnnlab.state import TrainState
from cnnlab.writer import save_figures, write_whole

SHEET = 100  # pictures on the contact sheet


def find_pictures(pattern: str | None) -> list[Path]:
    """The files that a path or glob names, sorted; a folder stands for the pictures in it.

    Raises:
      UserError: nothing matches, or there is no pattern.
    """
    if not pattern:
        raise UserError("--mode=predict needs --input: a picture, a folder of pictures, or a glob in quotes")
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    if not found:
        raise UserError(f"--input={pattern} matches no picture")
    return sorted(found)


def predict(experiment: Experiment, state: TrainState, files: list[Path]) -> tuple[list[Path], list[Any], list]:
    """Predictions for picture files.

    Returns:
      The files that could be read, their pictures as `experiment.read_picture` has them, and one row each of plain
      values.

    Raises:
      UserError: none can be read. Some that cannot are named on stderr and left out.
    """
    read, pictures = [], []
    for file in files:
        try:
            pictures.append(experiment.read_picture(file))
            read.append(file)
        except CorruptPicture as error:
            print(f"left out: {error}", file=sys.stderr)
    if not read:
        raise UserError(f"none of the {len(files)} pictures can be read")
    if len(read) < len(files):
        print(f"{len(files) - len(read)} of {len(files)} pictures are left out", file=sys.stderr)
    if hasattr(experiment.task, "predict_each"):  # pictures of any size, that are read part by part
        return read, pictures, experiment.task.predict_each(state, pictures)
    step = jax.jit(experiment.task.predict_step)
    rows = []
    size = min(experiment.eval_batch_size, len(pictures))
    for start in range(0, len(pictures), size):
        chunk = pictures[start : start + size]
        # The last batch is padded, so that one compiled program serves all.
        fields = [picture if isinstance(picture, dict) else {"image": picture} for picture in chunk]
        batch = jax.tree.map(lambda *each: np.stack(each), *fields, *[fields[-1]] * (size - len(chunk)))
        rows += experiment.task.describe(jax.device_get(step(state, batch)))[: len(chunk)]
    return read, pictures, rows


def predict_and_say(
    experiment: Experiment, workdir: Path, which: str, pattern: str | None, options: ConfigDict
) -> None:
    """What the command line asks for: of picture files what is in them, or, of a task that makes pictures, samples.

    Args:
      experiment: the workdir's.
      workdir: the run's folder.
      which: "latest" or "best" checkpoint.
      pattern: of --input; a task that makes pictures needs none.
      options: the fields of `configs.options_of`.
    """
    makes = hasattr(experiment.task, "sample")
    if not makes and options.label:
        raise UserError(f"config.label is for nets that make pictures, and {experiment.name} is none")
    if makes and pattern is None:
        sample_and_save(experiment, loop.restored_state(experiment, workdir, which), workdir, options)
    else:
        files = find_pictures(pattern)
        asking = asked(experiment, options.query)
        if options.regions:
            from cnnlab.region_captions import of_regions  # late, as few runs need it

            if options.query:
                raise UserError("config.regions describes and config.query ranks whole pictures: leave one of them out")
            asking = of_regions(asking)
        state = loop.restored_state(experiment, workdir, which)
        predict_and_save(asking, state, workdir, files, ranked=bool(options.query))


def asked(experiment: Experiment, query: str) -> Experiment:
    """An experiment whose pictures are judged by how well a sentence fits them; without one, as it is.

    Raises:
      UserError: there is no sentence and there must be one, or the task knows of none; it has no words, or words that
        were never learnt.
    """
    task = experiment.task
    if not query:
        if getattr(task, "needs_query", False):
            raise UserError(f"{experiment.name} finds pictures by a sentence: add --config.query='...'")
        return experiment
    if not hasattr(task, "vocabulary"):
        raise UserError(f"config.query is for nets that know sentences, and {experiment.name} knows none")
    sentence = encoded(query, task.vocabulary)

    def read(path: Path) -> dict[str, np.ndarray]:
        return {**experiment.read_picture(path), **sentence}

    return dataclasses.replace(experiment, read_picture=read)


def encoded(query: str, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """A sentence as the "tokens" and the "length" of a picture; see `asked`."""
    words = words_of(query)
    if not words:
        raise UserError(f"config.query is {query!r}, which has no words: write a sentence")
    if unknown := [word for word in words if vocabulary.number(word) == UNK]:
        known = ", ".join(vocabulary.words[:60]) + ", …" * (len(vocabulary.words) > 60)
        raise UserError(f"config.query has words that were never learnt, {', '.join(unknown)}: it may have {known}")
    count = len(words) + 2
    return {"tokens": vocabulary.encode(words, count)[None], "length": np.array([count], np.int32)}


def sample_and_save(experiment: Experiment, state: TrainState, workdir: Path, options: ConfigDict) -> None:
    """Makes pictures and writes each as samples/NUMBER.png, and all on figures/predictions.png.

    Raises:
      UserError: an unknown class, or one for a net that makes pictures of no class; fewer than one sample.
    """
    task, count = experiment.task, options.num_samples
    if count < 1:
        raise UserError(f"config.num_samples is {count}; it must be positive")
    if options.label and not task.class_names:
        raise UserError(f"config.label is {options.label!r}, and {experiment.name} makes pictures of no class")
    label = class_number(options.label, task.class_names) if options.label else None
    keys, labels = task.fixed(count, label)
    step, size = jax.jit(task.sample), experiment.eval_batch_size
    samples = []
    for start in range(0, count, size):
        part = None if labels is None else labels[start : start + size]
        samples += list(np.asarray(step(state, keys[start : start + size], part)))
    if not parallel.is_main():
        return
    for old in (workdir / "samples").glob("[0-9]" * 5 + ".png"):  # of an earlier call: more, or of another class
        old.unlink()
    for number, sample in enumerate(samples):
        write_whole(workdir / "samples" / f"{number:05}.png", as_png(sample))
    names = [task.class_names[i] for i in labels] if labels is not None else [""] * count
    sheet = figures.contact_sheet(samples[:SHEET], names[:SHEET], f"{experiment.name}: samples")
    save_figures(workdir / "figures", {"predictions": sheet})
    print(f"written: {count} pictures in {workdir / 'samples'}, {workdir / 'figures' / 'predictions.png'}")


def predict_and_save(
    experiment: Experiment, state: TrainState, workdir: Path, files: list[Path], ranked: bool = False
) -> None:
    """Prints what is found in each picture, writes predictions.jsonl and the pictures that the task draws of it.

    Args:
      experiment, state: see `predict`.
      workdir: that is written into.
      files: of pictures.
      ranked: the pictures with the highest score come first.
    """
    files, pictures, rows = predict(experiment, state, files)
    if ranked:
        order = sorted(range(len(rows)), key=lambda i: -rows[i].get("score", rows[i].get("log_probability")))
        files, pictures, rows = ([each[i] for i in order] for each in (files, pictures, rows))
    if not parallel.is_main():
        return
    for file, row in zip(files, rows, strict=True):
        print(f"{file}  {experiment.task.say(row)}")
    plain = [{name: value for name, value in row.items() if not isinstance(value, np.ndarray)} for row in rows]
    lines = [json.dumps({"file": str(file), **row}) + "\n" for file, row in zip(files, plain, strict=True)]
    write_whole(workdir / "predictions.jsonl", "".join(lines).encode())
    names, task = [file.name for file in files], experiment.task
    # Before all figures: they take more memory than the rest, and nothing of what was found shall be lost to them.
    made = task.collected(files, rows) if hasattr(task, "collected") else {}
    if hasattr(task, "written"):
        for name, row in zip(_distinct(files), rows, strict=True):
            made |= task.written(name, row)
    for path, content in made.items():
        write_whole(workdir / path, content)
    save_figures(
        workdir / "figures", {"predictions": task.draw_predictions(pictures[:SHEET], names[:SHEET], rows[:SHEET])}
    )
    written = [workdir / "predictions.jsonl", workdir / "figures" / "predictions.png"]
    if hasattr(task, "draw_inputs"):
        seen = task.draw_inputs(state, np.stack(pictures[:SHEET]), names[:SHEET])
        seen = {f"predicted_{name}": figure for name, figure in seen.items()}
        save_figures(workdir / "figures", seen)
        written += [workdir / "figures" / f"{name}.png" for name in seen]
    if hasattr(task, "annotate"):
        written.append(workdir / "annotated")
        for name, picture, row in zip(_distinct(files), pictures, rows, strict=True):
            save_figures(written[-1], {name: task.annotate(picture, row)})
    written += sorted({workdir / Path(path).parts[0] for path in made})
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)


def _distinct(files: list[Path]) -> list[str]:
    """A name for each file: its own without the suffix, with a number where another has the same.

    >>> _distinct([Path("a/x.png"), Path("b/x.png")])
    ['x', 'x_2']
    """
    seen, names = Counter(), []
    for file in files:
        seen[file.stem] += 1
        names.append(file.stem if seen[file.stem] == 1 else f"{file.stem}_{seen[file.stem]}")
    return names
