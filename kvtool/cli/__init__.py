"""The command line: a command parses, calls the library function of its name, and prints."""
