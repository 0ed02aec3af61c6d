"""Loads the fixtures that all folders of tests share."""


def pytest_configure(config):
    config.pluginmanager.import_plugin("servers")
