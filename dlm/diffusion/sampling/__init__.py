"""The reverse process: one loop, interchangeable parts."""
