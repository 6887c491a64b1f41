"""What a run did, for people: one page, or Markdown and CSV."""
