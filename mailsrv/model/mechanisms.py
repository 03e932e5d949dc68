"""The mechanisms of SASL that mailsrv knows."""

from typing import Final

# In the order of preference. LOGIN is for old clients that know nothing else.
MECHANISMS: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
