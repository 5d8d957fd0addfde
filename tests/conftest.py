"""Shared by all tests: floating-point errors raise, as warnings do (see pyproject)."""

import os

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _strict_floats():
    with np.errstate(all="raise"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_collection_modifyitems(items):
    if "MINNET_DATA" not in os.environ:
        skip = pytest.mark.skip(reason="set MINNET_DATA to a folder with MNIST's IDX files")
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(skip)
