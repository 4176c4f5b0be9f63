"""Kills and errors at every storage call and statement of save, promotion and reconciliation.

``world`` sets a process up, ``points`` counts and breaks, ``oracle`` reads storage and database directly, ``scenarios`` is
what is done, ``sweep`` and ``crowd`` are the programs, ``test_faults`` runs them.
"""
