"""Time of `flightlog --help` and of `import flightlog`, beside bare Python starts.

python benchmarks/cli_start.py [--repeat 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from benchmarks._timing import rounds, table

CASES = {
    "python -c pass": "pass",
    "python, import click": "import click",
    "python, import flightlog": "import flightlog",
    "flightlog --help": "from flightlog.cli import run; run(['--help'])",
    "flightlog runs --help": "from flightlog.cli import run; run(['runs', '--help'])",
    "all heavy libraries, for comparison": (
        "import duckdb, pyarrow, polars, jsonschema, matplotlib.pyplot"
    ),
}


def start(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    medians = rounds({name: partial(start, code) for name, code in CASES.items()}, repeat=repeat)
    bare = medians["python -c pass"]
    lines = [(n, f"{s * 1000:.0f}", f"{s / bare:.2f}") for n, s in medians.items()]
    print(f"start of a process, median of {repeat} rounds\n")
    print(table(lines, header=("case", "ms", "to bare python")))


if __name__ == "__main__":
    main()
