"""Evaluations of my own, built on em-inspect."""
