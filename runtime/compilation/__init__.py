"""The process that compiles, and what is said to it.

A package of its own, since each upload waits until the process has loaded what it imports: nothing of the store's.
"""
