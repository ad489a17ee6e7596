"""Speed and memory against a peer, measured in one run: `nox -s bench`."""
