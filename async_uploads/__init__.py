"""Resumable uploads for Django's file fields: the file is uploaded while the form is filled in, and adopted on save."""

__version__ = "0.1.0"
