"""Django storages that take uploads. Pick one in ``STORAGES``, or derive your own from ``base.AsyncUploadStorage``."""
