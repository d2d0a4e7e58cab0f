"""What a person sees of a run: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from cnnlab import parallel


class Progress:
    """Progress over steps, on stderr: a bar with rate and time left on a terminal, one line a report elsewhere.

    Only the main process prints.
    """

    def __init__(self, what: str, start: int, stop: int, batch_size: int):
        self._what, self._stop, self._batch_size = what, stop, batch_size
        self._time, self._step = time.perf_counter(), start
        self._bar = None
        if sys.stderr.isatty() and parallel.is_main():
            self._bar = tqdm(desc=what, initial=start, total=stop, unit="step", dynamic_ncols=True)

    def step(self, step: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def report(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Shows metrics and the rate since the last report; returns the rate."""
        now = time.perf_counter()
        rate = (step - self._step) * self._batch_size / max(now - self._time, 1e-9)
        self._time, self._step = now, step
        text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(f"{text}  {rate:,.0f} images/s")
        else:
            seconds = (self._stop - step) * self._batch_size / max(rate, 1e-9)
            self.say(f"{self._what} {step}/{self._stop}  {text}  {rate:,.0f} images/s  {_duration(seconds)} left")
        return {"images_per_second": rate}

    def pause(self, seconds: float) -> None:
        """Leaves time that was not spent on steps (evaluation, say) out of the next rate."""
        self._time += seconds

    def say(self, text: str) -> None:
        """A line that stays."""
        if parallel.is_main():
            tqdm.write(text, file=sys.stderr) if self._bar is not None else print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
