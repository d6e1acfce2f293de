"""The jobs: what a command, or one call in Python, does from beginning to end."""
