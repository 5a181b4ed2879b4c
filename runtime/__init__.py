"""The host program: what runs on the operator's machine."""
