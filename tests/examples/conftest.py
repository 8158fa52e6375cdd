"""Loads an example as a person who copied the file would."""

import importlib.util

import pytest


@pytest.fixture(scope="session")
def load(root):
    def load(name):
        spec = importlib.util.spec_from_file_location(name, root / f"examples/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
