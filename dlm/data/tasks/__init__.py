"""The shapes of rows that tasks have, a family a file, and their templates as data."""
