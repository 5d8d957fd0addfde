"""What happened in a training run, an epoch a row: to be indexed, printed, drawn, written as CSV."""

import html

import numpy as np

from minnet._checks import bad_value, optional_module

__all__ = ["History"]

NO_SCORES = ("epoch", "lr", "seconds")
SHOWN = 12  # epochs that are printed; of more, the first and last five


class History:
    """What happened, an epoch a row: ``history["val_loss"]`` is a list, ``history[-1]`` the last epoch as a dict.

    Columns: "epoch" (from 1), "loss" and the metrics (means over the epoch, while the weights moved), "lr", "seconds";
    with validation data "val_loss", for losses that classify "val_accuracy", and the metrics; and what callbacks add.

    Attributes
    ----------
    rows : list of dict
        One an epoch; of epochs that were trained in one call, made when it is first asked for.
    interrupted : bool
        Whether Ctrl-C ended the run.
    path : {"epoch", "layers", None}
        How the last epoch was trained: a plain net by its steps in compiled code, many in a call, or layer by layer,
        as where a callback looks at batches, or batches come from a source. The numbers are the same but for rounding.
    """

    def __init__(self):
        self._rows, self._calls, self.interrupted, self.path = [], [], False, None

    @property
    def rows(self):  # noqa: D102
        while self._calls:
            first, losses, rest = self._calls.pop(0)
            self._rows += [{"epoch": i, "loss": loss, **rest} for i, loss in enumerate(losses.tolist(), first)]
        return self._rows

    def add_call(self, first, losses, **rest):
        """Add epochs that went together, from the `first` on: a dict each would take as long as a tiny net trains."""
        self._calls.append((first, losses, rest))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.columns:
                rule = f"column must be one of {', '.join(map(repr, self.columns)) or 'none, as no epoch has ended'}"
                raise bad_value("History", rule, key)
            return [row.get(key, np.nan) for row in self.rows]
        return self.rows[key]

    @property
    def columns(self):
        """The names of the columns, in the order of their coming."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def plot(self, *, ax=None):
        """Draw losses and, on axes of their own beside them, the metrics against epochs (extra `plot`: matplotlib).

        A colour is a score; training is solid, validation dashed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw the losses; metrics are left out then.

        Returns
        -------
        matplotlib.axes.Axes
            Those of the losses; its ``figure`` has all.
        """
        scores = [name for name in self._numbers() if name not in NO_SCORES]
        losses = [name for name in scores if name.endswith("loss")]
        metrics = [name for name in scores if name not in losses]
        axes = _panels(1 + bool(metrics)) if ax is None else [ax]
        for panel, names in zip(axes, (losses, metrics), strict=False):
            kinds = list(dict.fromkeys(name.removeprefix("val_") for name in names))
            panel.set(xlabel="epoch", ylabel=kinds[0] if len(kinds) == 1 else "")
            for name in names:
                color, style = f"C{kinds.index(name.removeprefix('val_'))}", "--" if name.startswith("val_") else "-"
                panel.plot(self["epoch"], self[name], style, color=color, label=name)
            if names:
                panel.legend(frameon=False)
        return axes[0]

    def to_csv(self, path):
        """Write all rows to a file, the names of the columns first; numbers with all their digits."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            write_rows(file, self.columns, self.rows, named=True)

    def _numbers(self):
        """The columns that hold numbers; callbacks may add others."""
        return [name for name in self.columns if isinstance(self.rows[-1].get(name), (int, float))]

    def _table(self):
        """The rows of text that are shown, the names first; None stands for what is left out."""
        plain = self._numbers()
        ends = [*self.rows[: SHOWN - 7], None, *self.rows[7 - SHOWN :]]
        shown = self.rows if len(self.rows) <= SHOWN else ends
        yield plain
        for row in shown:
            yield ["..." if row is None else _cell(row.get(name)) for name in plain]

    def __repr__(self):
        if not self.rows:
            return "History(no epochs)"
        return "\n".join("  ".join(f"{cell:>12}" for cell in row) for row in self._table())

    def _repr_html_(self):
        """The same table for a notebook."""
        if not self.rows:
            return html.escape(repr(self))
        head, *rows = ([html.escape(cell) for cell in row] for row in self._table())
        lines = ["<table>", "<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"]
        lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
        return "\n".join([*lines, "</table>"])


def _panels(columns):
    """Axes side by side, made without pyplot: no display, no global state."""
    module = optional_module("History.plot", "matplotlib.figure", "plot")
    figure = module.Figure(figsize=(1 + 4 * columns, 3.6), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    return axes


def write_rows(file, columns, rows, *, named):
    """Write rows, dicts, as lines of CSV, below the names of the columns if `named`."""
    import csv  # a cost that importing minnet should not have

    writer = csv.DictWriter(file, columns)
    if named:
        writer.writeheader()
    writer.writerows(rows)


def _cell(value):
    return "" if value is None else f"{value}" if isinstance(value, int) else f"{value:.5g}"
