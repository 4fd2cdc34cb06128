"""Drills: what must hold when machines, processes and disks fail, tried by hand with `make drills`."""
