"""The contract of plugins as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from detkit.plugins import registry
from detkit.plugins.checking import check_plugin
from detkit.testing.base import ContractBase, plugin

if TYPE_CHECKING:
    import pytest

    from detkit.plugins.checking import Finding


class PluginContract(ContractBase, contract=True):
    """Every rule that `detkit plugins check` looks at, as a test each, for the installed plugin `distribution`."""

    distribution: ClassVar[str]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each rule and each component."""
        if "finding" in metafunc.fixturenames:
            findings = list(check_plugin(registry(), plugin(self.distribution)))
            metafunc.parametrize("finding", findings, ids=[finding.rule for finding in findings])

    def test_rule(self, finding: Finding) -> None:
        """A rule of the plugin contract. If it fails: the message says what to change; docs/plugins.md says why."""
        assert not finding.problem, finding.problem
