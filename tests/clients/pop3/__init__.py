"""Real clients that read a mailbox by POP3; see the README above."""
