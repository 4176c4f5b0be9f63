"""The demo project: settings, routes and the two applications."""
