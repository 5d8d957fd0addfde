"""A measuring process, one for each number of threads, started by `__main__`."""

import json
from pathlib import Path

from benchmarks.threads import restrict


def main(options, path):
    """Measure what `options`, a JSON object, asks for, and write the run as JSON to `path`."""
    options = json.loads(options)
    threads, pinned = restrict(options["threads"])
    # Imported late: numpy, torch and jax look at the CPUs and the environment when they are loaded.
    from benchmarks.cases import select
    from benchmarks.measure import measure
    from benchmarks.results import noise

    selected = select(options["only"], options["dtypes"])
    run = {"threads": threads, "pinned": pinned} | measure(selected, threads, options["rounds"], options["without"])
    run["noise"] = noise(run["cases"])
    Path(path).write_text(json.dumps(run), encoding="utf-8")
