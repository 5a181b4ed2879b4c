"""The `cloister` command. Nobody imports this room; it starts the server and talks to the management API.

Commands are imported when they are called, and what they need when they need it: most of the time that a short command
takes is imports. Data goes to standard output, everything that is said to a person to standard error.
"""
