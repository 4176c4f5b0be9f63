"""Kills and errors at every storage call and statement of save, promotion and reconciliation.

``__main__`` sets a process up, ``points`` counts and breaks, ``oracle`` reads storage and database directly,
``scenarios`` is what is done in the ``world``, ``sweep`` and ``crowd`` are the programs, ``test_faults`` runs them.
"""
