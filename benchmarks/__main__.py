"""The command `python -m benchmarks`: starts a measuring process for each number of threads, then reports."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.cases import DTYPES, select
from benchmarks.contenders import LIBRARIES
from benchmarks.results import OURS
from benchmarks.threads import available

QUICK_ROUNDS = 5
ROOT = Path(__file__).resolve().parents[1]

# Without -P the working directory would come first, and with it the clone's minnet, which may not be built; with it an
# installed minnet goes first. In a development install the two are the same.
START = "import sys; sys.path.append(sys.argv[1]); from benchmarks.worker import main; main(*sys.argv[2:])"


def main(arguments=None):
    """Run the command; give its exit status: 0, or 1 if minnet failed a case or a measuring process died."""
    options = parse(arguments)
    about, runs = report.machine(), []
    for threads in options.threads:
        run = measure_apart(options, threads)
        if run is None:
            return 1
        runs.append(run)
        print("\n".join(report.text(about, run)), end="\n\n", flush=True)
    if options.json:
        document = json.dumps({"machine": about, "runs": runs}, indent=1)
        options.json.write_text(document + "\n", encoding="utf-8")
    if options.plot:
        report.plot(about, runs, options.plot)
    return int(any(OURS in record["excluded"] for run in runs for record in run["cases"]))


def measure_apart(options, threads):
    """The run of a measuring process of its own, or None if that died."""
    wanted = {
        "threads": threads,
        "only": options.only,
        "dtypes": options.dtype,
        "rounds": options.rounds,
        "without": options.without,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        command = [sys.executable, "-P", "-c", START, str(ROOT), json.dumps(wanted), str(path)]
        # Libraries that print something must not print into the report.
        status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        if status:
            print(f"benchmarks: the measuring process for threads: {threads} ended with {status}", file=sys.stderr)
            return None
        return json.loads(path.read_text(encoding="utf-8"))


def parse(arguments):
    """Checked options."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Time minnet beside its peers, in one run.")
    add = parser.add_argument
    add("--threads", choices=["1", "all", "both"], default="both", help="one pinned CPU, all CPUs, or in turn")
    add("--only", default="", metavar="REGEX", help='cases whose "name size dtype" holds this, such as "sigmoid 2^20"')
    add("--dtype", choices=DTYPES, help="one dtype (default: both)")
    add("--rounds", type=_count, metavar="N", help="turns of each contender (default: what 15 seconds allow, 5 to 25)")
    add("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds: to see that all works")
    names = [name for name in LIBRARIES.values() if name != OURS]
    add("--without", choices=names, nargs="+", default=[], metavar="PEER", help=f"leave out: {', '.join(names)}")
    add("--json", type=_new_file, metavar="FILE", help="write all times of all contenders")
    add("--plot", type=_new_file, metavar="FILE", help="draw the ratios (needs matplotlib)")
    options = parser.parse_args(arguments)
    options.dtype = [options.dtype] if options.dtype else list(DTYPES)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else None)
    both = ["1", "all"] if len(available()) > 1 else ["1"]
    options.threads = both if options.threads == "both" else [options.threads]
    _refuse_early(parser, options)
    return options


def _refuse_early(parser, options):
    """Find what would fail at the end of a long run."""
    try:
        found = select(options.only, options.dtype)
    except re.error as error:
        parser.error(f"--only: not a regular expression: {error}")
    if not found:
        parser.error(f"--only: no case matches {options.only!r}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot: needs matplotlib: pip install matplotlib")


def _count(text):
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return int(text)


def _new_file(text):
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {path.parent}")
    return path


if __name__ == "__main__":
    sys.exit(main())
