"""What the command line does, a file a group of verbs."""
