"""Stress: commands that are killed, and disks that are full; see `__main__`."""
