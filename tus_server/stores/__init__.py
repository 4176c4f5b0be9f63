"""Where uploads keep their bytes. A store sees bytes and uploads, never headers, requests or statuses."""
