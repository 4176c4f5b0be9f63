"""The steps of the protocol: one module for each kind of request, and what they share.

Each step is a generator of effects (``effects.Steps``): it says what it needs and waits for nothing itself.
"""
