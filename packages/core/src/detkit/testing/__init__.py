"""Contracts for plugins: for each kind a class of tests that every component of that kind must pass.

    # tests/test_contracts.py of a plugin; needs the extra det-core[testing]
    from detkit.testing.backbone import BackboneContract
    from detkit.testing.plugin import PluginContract

    class TestPlugin(PluginContract):
        distribution = "acme-swin"

    class TestBackbones(BackboneContract):
        distribution = "acme-swin"

A contract runs over everything of its kind that the distribution registers. A test that cannot pass is overridden with
`@pytest.mark.xfail(reason="...")`; replacing or removing it in any other way is refused. Fixtures for tests of plugins
are in `detkit.testing.fixtures`.
"""
