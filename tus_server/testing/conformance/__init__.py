"""The tus checklist as tests: a module per section, each test marked with the items that it covers.

``python -m tus_server.testing.conformance URL`` runs them against any server. Our own test suite runs the same modules
with fixtures that see the server's files and offer endpoints with other limits.
"""
