"""Sphinx builds these pages: python -m sphinx -W -b html docs docs/_build (extra `docs`)."""

import numpy as np

import minnet

project = "minnet"
author = copyright = "the minnet developers"
version = release = minnet.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
numpydoc_show_class_members = False  # autosummary lists them

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",  # the other examples are programs without a figure
    "within_subsection_order": "ExampleTitleSortKey",  # titles begin with the letters of claims.md
    "download_all_examples": False,
    "show_signature": False,
}

html_theme = "alabaster"
html_theme_options = {"page_width": "1080px", "sidebar_width": "200px"}


def plain_bars(app, what, name, thing, options, lines):
    """Docstrings are plain text, in which |x| is an absolute value and not a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def without_ufuncs(app, what, name, thing, skip, options):
    """Sphinx 9 fails at numpy's docstrings of them, as in a cost of the lab whose `pull` is numpy.sign."""
    return True if isinstance(thing, np.ufunc) else None


def setup(app):
    """Called by sphinx."""
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("autodoc-skip-member", without_ufuncs)
