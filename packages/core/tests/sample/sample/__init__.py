"""Components for the tests of the config: they only keep what they are given."""
