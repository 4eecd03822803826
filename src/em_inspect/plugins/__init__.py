"""Plugins: which tasks are installed, and a package of one's own to begin with."""
