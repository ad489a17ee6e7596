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


def test_too_many_names_are_counted_and_not_listed(plugins: Registry) -> None:
    plugins.register(provide(*(schedule(f"acme/{number}") for number in range(41))), "acme")
    with pytest.raises(UnknownComponentError, match=r"there are 41; `detkit plugins list` shows them$"):
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


def family(name: str) -> Component:
    return Component(kind="schedule", name=name, target="detkit.engine.schedules:Constant", member="model")


def test_what_follows_a_familys_name_is_an_argument(plugins: Registry) -> None:
    plugins.register(provide(family("acme/zoo"), schedule("acme/flat")), "acme")
    expanded = plugins.expand("schedule", {"name": "acme/zoo/big/lion.v1", "size": 2})
    assert expanded == {"name": "acme/zoo", "model": "big/lion.v1", "size": 2}
    for spec in ({"name": "acme/zoo", "model": "lion"}, {"name": "acme/flat"}, {"name": "acme/zoology/lion"}):
        assert plugins.expand("schedule", spec) == spec


def test_a_member_is_given_once(plugins: Registry) -> None:
    plugins.register(provide(family("acme/zoo")), "acme")
    with pytest.raises(ComponentError, match="the name is 'acme/zoo/lion' and 'model' is given too; leave one out"):
        plugins.expand("schedule", {"name": "acme/zoo/lion", "model": "cat"})


def test_a_component_cannot_take_a_familys_name(plugins: Registry) -> None:
    """Else installing its plugin would change what a config means."""
    plugins.register(provide(family("zoo")), "det-zoo")
    plugins.register(provide(schedule("zoo/lion")), "zoo-lion")
    with pytest.raises(DuplicateComponentError, match="provided by both det-zoo and zoo-lion"):
        plugins.expand("schedule", {"name": "zoo/lion"})


def test_an_unknown_member_of_a_known_family_says_what_to_install(plugins: Registry) -> None:
    with pytest.raises(UnknownComponentError) as caught:
        plugins.find("backbone", "timm/resnet18")
    assert str(caught.value).splitlines()[1] == "  it is provided by det-backbones: pip install det-backbones"
