"""Layouts of the field that a stream can be written in, one file each; what a layout loses stands in its file."""
