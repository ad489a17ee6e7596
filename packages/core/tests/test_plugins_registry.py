from __future__ import annotations

from types import SimpleNamespace

import pytest

from detkit.interfaces import Schedule
from detkit.plugins import (
    Component,
    ComponentError,
    DuplicateComponentError,
    Registry,
    UnknownComponentError,
    hookimpl,
    registry,
    use_registry,
)


def provide(*components: Component) -> SimpleNamespace:
    """A plugin with these components."""
    return SimpleNamespace(detkit_components=hookimpl(lambda: list(components)))


def schedule(name: str, target: str = "detkit.engine.schedules:Constant") -> Component:
    return Component(kind="schedule", name=name, target=target, summary=name)


def test_a_component_is_found_and_imported(plugins: Registry) -> None:
    plugins.register(provide(schedule("acme/flat")), "acme")
    assert plugins.names("schedule") == ["acme/flat"]
    assert plugins.find("schedule", "acme/flat").summary == "acme/flat"
    assert issubclass(plugins.load("schedule", "acme/flat"), Schedule)


def test_components_are_listed_by_kind_and_name(plugins: Registry) -> None:
    recipe = Component(kind="recipe", name="acme/r", target="acme:r.yaml")
    plugins.register(provide(schedule("acme/b"), recipe, schedule("acme/a")), "acme")
    assert [each.name for each in plugins.components()] == ["acme/r", "acme/a", "acme/b"]
    assert [each.name for each in plugins.components("schedule")] == ["acme/a", "acme/b"]


def test_an_unknown_name_suggests_near_ones(plugins: Registry) -> None:
    plugins.register(provide(schedule("acme/flat"), schedule("acme/cosine")), "acme")
    with pytest.raises(UnknownComponentError) as caught:
        plugins.load("schedule", "acme/flt")
    assert str(caught.value) == "no schedule is called 'acme/flt'\n  did you mean: acme/flat?"


def test_an_unknown_name_of_a_known_package_says_what_to_install(plugins: Registry) -> None:
    with pytest.raises(UnknownComponentError) as caught:
        plugins.find("backbone", "resnet")
    assert str(caught.value).splitlines()[1] == "  it is provided by det-backbones: pip install det-backbones"


def test_an_unknown_name_without_near_ones_lists_what_there_is(plugins: Registry) -> None:
    plugins.register(provide(schedule("acme/flat")), "acme")
    with pytest.raises(UnknownComponentError, match="there are: acme/flat"):
        plugins.find("schedule", "zzz")


def test_a_name_of_two_plugins_is_an_error_that_names_both(plugins: Registry) -> None:
    for plugin in ("acme", "other"):
        plugins.register(provide(schedule("acme/flat", f"{plugin}.x:Flat")), plugin)
    with pytest.raises(DuplicateComponentError) as caught:
        plugins.load("schedule", "acme/flat")
    assert "provided by both acme (acme.x:Flat) and other (other.x:Flat)" in str(caught.value)
    assert "DETKIT_DISABLE_PLUGINS=acme" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("not_there:Flat", "ModuleNotFoundError: No module named 'not_there'"),
        ("detkit.engine.schedules:Flat", "AttributeError: module 'detkit.engine.schedules' has no attribute 'Flat'"),
    ],
)
def test_a_component_that_cannot_be_imported_names_its_plugin(plugins: Registry, target: str, reason: str) -> None:
    plugins.register(provide(schedule("acme/flat", target)), "acme")
    with pytest.raises(ComponentError) as caught:
        plugins.load("schedule", "acme/flat")
    assert f"schedule 'acme/flat' of plugin acme cannot be imported from {target}: {reason}" in str(caught.value)


def test_the_registry_of_installed_plugins_is_made_once_and_can_be_replaced() -> None:
    usual = registry()
    assert registry() is usual
    with use_registry(Registry()) as other:
        assert registry() is other
    assert registry() is usual


def test_core_provides_its_components_as_a_plugin() -> None:
    [info] = [info for info in registry().plugins() if info.name == "det-core"]
    assert info.state == "loaded"
    assert {"optimizer", "schedule", "tracker", "transform"} <= {each.kind for each in info.components}
