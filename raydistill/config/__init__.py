"""Configs: frozen, typed, printable, identified by a digest. No framework."""
