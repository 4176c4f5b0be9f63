"""The whole thing in real Chromium against real servers that run the example project."""
