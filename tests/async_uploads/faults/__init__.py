"""Kills and errors at every storage call and statement of save, promotion and reconciliation.

``__main__`` sets a process up, ``points`` counts and breaks, ``census`` counts by other means, ``oracle`` reads storage
and database directly, ``scenarios`` is what is done in the ``world``; ``sweep``, ``crowd``, ``skipping`` and
``waiting`` are the programs, ``test_faults`` runs them.
"""
