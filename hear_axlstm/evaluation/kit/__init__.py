"""hear-eval-kit itself, unmodified: its own runners in another process, put right for today's packages.

launch.py    runs the kit from our process, and reads what it leaves
__main__.py  the kit's process
mend.py      what is broken in the kit today, and what mends it
"""
