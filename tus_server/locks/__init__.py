"""Who may write to an upload. A lease is politeness; the store's fence is correctness."""
