"""What all contracts share: they cannot be weakened in silence, and they run over all that a distribution registers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from detkit.plugins import registry
from detkit.plugins.discovery import canonical

if TYPE_CHECKING:
    import pytest

    from detkit.plugins import PluginInfo


class ContractBase:
    """A class of tests to be inherited by a class named `Test...`.

    A subclass may override a test only to mark it `@pytest.mark.xfail(reason="...")`. Classes that define contracts
    say so: `class BackboneContract(ContractBase, contract=True)`.

    Raises:
        TypeError: a subclass replaces or removes a test.
    """

    _is_contract: ClassVar[bool] = True

    def __init_subclass__(cls, *, contract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_contract = contract
        if changed := [] if contract else _changed_tests(cls):
            raise TypeError(
                f"{cls.__name__} replaces or removes {', '.join(changed)} of its contract; what cannot pass is "
                'overridden with @pytest.mark.xfail(reason="...") instead'
            )

    def test_the_contract_is_whole(self) -> None:
        """Fails if a test was replaced after the class was made. Mark what cannot pass as xfail, with a reason."""
        assert _changed_tests(type(self)) == []


def _changed_tests(cls: type) -> list[str]:
    """The contract's tests that `cls` has changed without an xfail mark that gives a reason."""
    wanted: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__dict__.get("_is_contract"):
            for name, function in vars(base).items():
                if name.startswith("test"):
                    wanted.setdefault(name, function)
    changed = []
    for name, function in wanted.items():
        found = inspect.getattr_static(cls, name, None)
        marks = getattr(found, "pytestmark", ())
        excused = any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
        if found is not function and not excused:
            changed.append(name)
    return sorted(changed)


class KindContract(ContractBase, contract=True):
    """A contract for all components of one kind that a distribution registers.

    Class attributes for the subclass to set:

        distribution  whose components are tested
        arguments     component name -> arguments to test it with, one mapping for each test; {} unless given
        names         only these, of another distribution, with parts of one's own in their arguments: a plugin of heads
                      tests them inside the detectors of det-heads
    """

    kind: ClassVar[str]
    distribution: ClassVar[str]
    arguments: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {}
    names: ClassVar[Sequence[str]] = ()

    @classmethod
    def specs(cls) -> list[dict[str, Any]]:
        """What to build, as a config has it: name and arguments."""
        names = [each.name for each in plugin(cls.distribution).components if each.kind == cls.kind]
        assert names, f"{cls.distribution} registers nothing of kind {cls.kind}; {cls.__name__} is not needed"
        unknown = sorted(set(cls.names) - set(names))
        assert not unknown, f"{cls.__name__}.names has {', '.join(unknown)}, which {cls.distribution} does not register"
        names = [name for name in names if not cls.names or name in cls.names]
        stale = sorted(cls.arguments.keys() - set(names))
        assert not stale, f"{cls.__name__}.arguments has {', '.join(stale)}, which {cls.distribution} does not register"
        return [{"name": name, **given} for name in names for given in cls.arguments.get(name, ({},))]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes a `spec` over all specs."""
        if "spec" in metafunc.fixturenames:
            specs = self.specs()
            names = [spec["name"] for spec in specs]
            ids = [
                f"{name}-{names[:index].count(name)}" if names.count(name) > 1 else name
                for index, name in enumerate(names)
            ]
            metafunc.parametrize("spec", specs, ids=ids)


def plugin(distribution: str) -> PluginInfo:
    """The installed plugin of a distribution.

    Raises:
        AssertionError: it is not installed.
    """
    found = [info for info in registry().plugins() if canonical(info.name) == canonical(distribution)]
    assert found, f"no plugin {distribution} is installed; run: pip install -e ."
    return found[0]
