"""For whoever writes a store or a locker, or tests with an endpoint: contract suites to subclass, a body to script."""
