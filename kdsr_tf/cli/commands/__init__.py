"""The commands: their options and help.

These files import no library but click, so that help and version come at once. A command
imports what it does inside its function, from the file beside this folder.
"""
