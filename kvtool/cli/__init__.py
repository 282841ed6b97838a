"""The command line: each command parses, calls the library function of the same name, and prints."""
