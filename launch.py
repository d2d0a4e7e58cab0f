"""The launcher: absl flags → experiment → mode. `python launch.py` alone lists the experiments."""

import os
import sys
from pathlib import Path

from absl import app, flags

from cnnlab import allocator, configs

FLAGS = flags.FLAGS
DEBUG = {f"{dashes}debug{value}" for dashes in ("-", "--") for value in ("", "=true", "=True", "=1")}
flags.DEFINE_string("experiment", None, "Which file of experiments/; default: the one that the workdir holds.")
flags.DEFINE_string("workdir", None, "The run's folder; default: runs/EXPERIMENT.")
flags.DEFINE_enum("mode", "train", configs.MODES, "What to do.")
flags.DEFINE_string("input", None, "predict, inspect: a picture, a folder of pictures, or a glob in quotes.")
flags.DEFINE_string("workdirs", None, "compare, eval: the folders of two trained runs, or more: A,B.")
flags.DEFINE_enum("checkpoint", "latest", ("latest", "best"), "Where a trained net is used: which checkpoint.")
flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie; default: $TFDS_DATA_DIR or ~/tensorflow_datasets.")
flags.DEFINE_bool("overwrite", False, "train: delete the run of another configuration that the workdir holds.")
flags.DEFINE_bool("debug", False, "Show the traceback of a mistake.")
flags.DEFINE_string("coordinator", None, "With several processes: host:port of process 0.")
flags.DEFINE_integer("num_processes", 1, "With several processes: how many there are.")
flags.DEFINE_integer("process_id", 0, "With several processes: this one's number, from 0.")


def main(argv: list[str]) -> None:
    """Runs one command line; `--config.*` flags exist only once the experiment is known, hence two passes."""
    app.define_help_flags()
    rest = FLAGS(argv, known_only=True)[1:]
    if FLAGS.data_dir:
        os.environ["TFDS_DATA_DIR"] = FLAGS.data_dir
    options = configs.options_of(FLAGS.mode, several=FLAGS.workdirs is not None)
    if FLAGS.mode == "compare" or FLAGS.workdirs is not None:
        return run_several(argv, rest, options)
    if FLAGS.experiment is None and FLAGS.workdir is None:
        configs.refuse_unknown(rest, FLAGS)
        return print(configs.listing())
    name, workdir, config = configs.choose(FLAGS.experiment, FLAGS.workdir, trains=FLAGS.mode == "train")
    configs.override(FLAGS, argv, rest, config, options)
    run(FLAGS.mode, name, config, workdir, options)


def run_several(argv: list[str], rest: list[str], options: configs.ConfigDict) -> None:
    """The modes of several workdirs, each with its own experiment and configuration."""
    from cnnlab import compare, evaluate, parallel

    folders = configs.several_workdirs(FLAGS.workdirs, FLAGS.mode, configs.beside_workdirs(FLAGS, rest, options))
    configs.override(FLAGS, argv, rest, configs.ConfigDict(), options)
    parallel.set_up(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    if FLAGS.mode == "compare":
        compare.compare_and_say(folders, FLAGS.checkpoint)
    else:
        evaluate.ensemble_and_say(folders, FLAGS.checkpoint, options.eval, options.stored_size)


def run(mode: str, name: str, config: configs.ConfigDict, workdir: Path, options: configs.ConfigDict) -> None:
    """One mode of one experiment. Imports are late: each mode pays for what it needs."""
    from cnnlab import loop, parallel, series

    parallel.set_up(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    experiment = configs.load(name).build(config)
    if isinstance(experiment, series.Series):
        series.run(experiment, mode, workdir, FLAGS.overwrite)
    elif mode == "train":
        loop.train_and_say(experiment, workdir, FLAGS.overwrite)
    elif mode == "eval":
        from cnnlab import evaluate

        evaluate.evaluate_and_say(experiment, workdir, FLAGS.checkpoint, options.eval)
    elif mode == "predict":
        from cnnlab import predict

        predict.predict_and_say(experiment, workdir, FLAGS.checkpoint, FLAGS.input, options)
    elif mode == "inspect":
        from cnnlab import inspection

        inspection.inspect(experiment, workdir, FLAGS.checkpoint, FLAGS.input, options)
    elif mode == "summary":
        from cnnlab import summary

        print(summary.report(experiment))
    elif mode == "benchmark":
        from cnnlab import benchmark

        print(benchmark.report(experiment, benchmark.measure(experiment)))
    elif mode == "export":
        from cnnlab import export

        export.export_and_say(experiment, workdir, FLAGS.checkpoint, options.export)
    elif experiment.prepare is None:
        print(f"{name} needs no preparation")
    else:
        experiment.prepare()


if __name__ == "__main__":
    allocator.keep_memory()
    sys.exit(configs.exit_code(lambda: main(sys.argv), debug=not DEBUG.isdisjoint(sys.argv)))
