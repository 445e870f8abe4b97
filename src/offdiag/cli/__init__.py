"""The command line: parse, call, write; no logic."""
