"""Measures cases: inputs, right answers, contenders that pass, times."""

import sys
from functools import partial

from benchmarks import bystanders, cases, contenders, results, timing


def measure(selected, threads, rounds=None, without=()):
    """Records of the selected cases, the versions of the libraries, and what is not here."""
    field, versions, missing = contenders.load(threads, without)
    print(f"minnet from {sys.modules['minnet'].__path__[0]}", file=sys.stderr)
    records = []
    for number, case in enumerate(selected, 1):
        print(f"[{number}/{len(selected)}, threads: {threads}] {case.key}", file=sys.stderr, flush=True)
        records.append(measure_case(case, field, rounds))
    return {"cases": records, "versions": versions, "missing": missing}


def measure_case(case, field, rounds=None):
    """One case as a record: see `results.record`; also who was excluded, and how many CPUs other processes took."""
    jobs, excluded = right_jobs(case, field)
    runs = {results.YARDSTICK: contenders.yardstick(case)} | {name: job.run for name, job in jobs.items()}
    before = bystanders.snapshot()
    seconds, calls = timing.time_interleaved(runs, rounds)
    others = bystanders.between(before, bystanders.snapshot())
    return results.record(case, seconds, calls) | {"excluded": excluded, "others": others}


def right_jobs(case, field):
    """Jobs by contender, of those that give the right answer; and for the others what was wrong."""
    problem = case.problem()
    expected = case.reference(problem)
    jobs, excluded = {}, {}
    for name, builders in field.items():
        if case.name not in builders:
            continue
        try:
            job, wrong = checked_job(partial(builders[case.name], problem), case, expected)
        except Exception as error:  # a peer that fails must not end the run; it is named in the report
            wrong = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if wrong:
            excluded[name] = wrong
        else:
            jobs[name] = job
    return jobs, excluded


def checked_job(build, case, expected):
    """A job that has run as often as the case says, and None or what is wrong with its answer."""
    job = build()
    for _ in range(cases.OPERATIONS[case.name].calls):
        result = job.run()
    return job, cases.disagreement(job.read(result), expected, case.dtype) if job.read else None
