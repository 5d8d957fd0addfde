"""Benchmarks: minnet beside numpy, scipy, torch, jax and scikit-learn, in one run. See README.md in this folder."""
