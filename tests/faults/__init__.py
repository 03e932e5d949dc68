"""Real faults of the machine: mail waits, and then arrives, exactly once."""
