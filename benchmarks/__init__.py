"""Benchmarks anyone can run again from the repository's root: `python -m benchmarks.NAME`.

A package, because a dependency installs one of this name, which would hide a folder without this file.
"""
