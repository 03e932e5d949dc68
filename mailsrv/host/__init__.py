"""The machine: one module for each outside package or operating-system facility."""
