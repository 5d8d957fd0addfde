"""What commands leave behind: tables on the screen, files in a folder."""

import csv
import os
import sys

from minnet._checks import optional_module


def print_table(rows):
    """Rows of text by column name, columns as wide as their widest cell."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    print("  ".join(name.ljust(width) for name, width in widths.items()).rstrip())
    print("  ".join("-" * width for width in widths.values()))
    for row in rows:
        print("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())


def write_csv(path, columns, rows):
    """A line of names, and a line a row."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return [path]


def write_figure(command, path, draw):
    """The figure that `draw()` gives; without matplotlib, a line that says what is missing."""
    try:
        optional_module(command, "matplotlib", "plot")
    except ImportError as error:
        print(f"\nNo figure: {error}; --no-plot leaves it out.", file=sys.stderr)
        return []
    draw().savefig(path, dpi=120)
    return [path]


def in_folder(folder, name):
    """A path in a folder, which is made if need be."""
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name)
