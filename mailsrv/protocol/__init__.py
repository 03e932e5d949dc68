"""Bytes in, events out: SMTP, POP3 and report formats. No I/O, no clock, no logging."""
