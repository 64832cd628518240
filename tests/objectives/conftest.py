"""A test that is marked as the conformance test of a method has to run the packaged file of that method."""

from collections.abc import Iterator

import conformance
import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A marked test with a parameter ``name`` runs once for each method that its mark names."""
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None:
        return
    if not marker.args:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: conformance names no method")
    if "name" in metafunc.fixturenames:
        values = [mark.args[1] for mark in metafunc.definition.iter_markers("parametrize") if mark.args[0] == "name"]
        if not values or set(values[0]) != set(marker.args):
            raise pytest.UsageError(
                f"{metafunc.definition.nodeid}: conformance{marker.args} and 'name' {values} differ"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("conformance")
    conformance.loaded.clear()
    yield
    if marker is not None:
        params = getattr(item, "callspec").params if hasattr(item, "callspec") else {}  # noqa: B009
        missing = {params["name"]} if "name" in params else set(marker.args)
        missing -= conformance.loaded
        if missing:
            pytest.fail(f"marked as the conformance test of {sorted(missing)}, but did not read the packaged file")
