from detkit.testing.plugin import PluginContract


class TestPlugin(PluginContract):
    distribution = "det-pointrend"
