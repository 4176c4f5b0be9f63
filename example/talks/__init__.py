"""A small archive of talks: recordings, pictures of the speakers, handouts; and the big file lab."""
