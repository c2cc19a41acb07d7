"""The protocol, the trials and their tables. Beside the package: not installed, and nothing in bus_hf imports it."""
