"""minnet alone over the cases of `python -m benchmarks`, for pytest-benchmark: to compare one version with another.

``python -m pytest benchmarks -k "sigmoid and float32" --benchmark-autosave`` keeps the times, the next run shows
them beside its own with ``--benchmark-compare``.
"""

import pytest

from benchmarks import measure
from benchmarks.cases import select
from benchmarks.contenders import with_minnet

pytest.importorskip("pytest_benchmark", reason='needs pytest-benchmark: pip install -e ".[bench]"')


@pytest.mark.parametrize("case", select(), ids=lambda case: case.key.replace(" ", "-"))
def test_minnet(benchmark, case):
    """Right, then timed."""
    jobs, wrong = measure.right_jobs(case, with_minnet.contenders(None))
    assert wrong == {}
    benchmark.group = case.name
    benchmark(jobs["minnet"].run)
