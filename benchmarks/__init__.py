"""Cloister beside its peers: every case with its yardstick in the same run. `just bench` runs it."""
