"""The app of the measured site."""
