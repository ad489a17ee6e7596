"""The command `detkit`: a dispatcher, and one module for each core command, imported when it is chosen."""
