"""What a person sees of a run."""

import io
import sys

from cnnlab.progress import Progress


def test_lines_where_there_is_no_terminal(capsys):
    progress = Progress("lenet", 0, 100, 32)
    progress.step(10)
    rates = progress.report(10, {"loss": 0.123456})
    progress.close()
    line = capsys.readouterr().err
    assert line.startswith("lenet 10/100  loss 0.1235  ")
    assert "images/s" in line
    assert line.rstrip().endswith("left")
    assert rates["images_per_second"] > 0


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", _Terminal())
    progress = Progress("lenet", 50, 100, 32)
    progress.step(60)
    progress.report(60, {"loss": 0.5})
    progress.say("test at step 60")
    progress.close()
    text = sys.stderr.getvalue()
    assert "60/100" in text
    assert "loss 0.5" in text
    assert "test at step 60" in text


def test_the_rate_leaves_pauses_out(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("cnnlab.progress.time.perf_counter", lambda: clock[0])
    progress = Progress("lenet", 0, 100, 10)
    clock[0] = 30.0
    progress.pause(25.0)
    assert progress.report(50, {})["images_per_second"] == 100.0
    assert "0:05 left" in capsys.readouterr().err
