"""From prompts to text, with any exported model."""
