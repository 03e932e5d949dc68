"""Words: the values that all of mailsrv speaks in. Frozen, pure, importing nothing of ours but each other."""
