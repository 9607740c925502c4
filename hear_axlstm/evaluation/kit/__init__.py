"""hear-eval-kit itself, unmodified: its own runners in a process of their own, put right for today's packages."""
