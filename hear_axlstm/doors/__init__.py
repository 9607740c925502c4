"""Our encoders inside the tools of others: a module a tool, named as it is, which is imported by name only.

A door imports its tool when it is imported itself; nothing else of the package imports a door.
"""
