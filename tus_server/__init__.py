"""A tus 1.0 server engine: resumable uploads over HTTP for Django, WSGI and ASGI.

The engine (``engine.Engine``) knows the protocol, a store (``stores``) keeps the bytes, a locker (``locks``) lets one
writer in at a time, and two thin shells (``wsgi``, ``asgi``) translate. Nothing in here imports ``async_uploads``.
"""
