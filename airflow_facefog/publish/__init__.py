"""Where only anonymised bytes go: ``store`` (exclusive create), ``layout`` (keys), ``dataset``, ``snapshots``, ``done``."""
