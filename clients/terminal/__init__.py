"""The programs at a terminal: a chat, one answer, and how they show it."""
